"""How a model's outputs describe a redshift distribution p(z): what `--pz` says, as text that a job holds."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

PzKind = Literal["grid", "bins", "mixture", "quantiles", "samples"]
MIXTURE_OUTPUTS = ("z_mean", "z_sigma", "z_weight")
"""Outputs of a model that gives a mixture of normal distributions; one with these names needs no `--pz`."""
# Wider than any grid in use (RAIL: 301 points), small enough that a batch of distributions fits in memory.
MAX_POINTS = 10_000


@dataclass(frozen=True)
class PzForm:
    """One way to describe p(z).

    `grid`: densities at `points` redshifts from `low` to `high`. `bins`: probabilities of `points` bins of equal width
    between them. `mixture`: means, standard deviations and weights of normal distributions. `quantiles`: the redshifts
    at these `levels`. `samples`: draws from the distribution, in any order.
    """

    kind: PzKind
    low: float = 0.0
    high: float = 0.0
    points: int = 0
    levels: tuple[float, ...] = ()

    @property
    def width(self) -> int | None:
        """Values a galaxy; None where the form does not fix it."""
        return {"grid": self.points, "bins": self.points, "quantiles": len(self.levels)}.get(self.kind)

    def __str__(self) -> str:
        if self.kind in ("grid", "bins"):
            return f"{self.kind}={self.low:g}:{self.high:g}:{self.points}"
        return f"quantiles={':'.join(f'{level:g}' for level in self.levels)}" if self.levels else self.kind


def parse_pz(text: str) -> PzForm:
    """`grid=0:3:301`, `bins=0:0.4:180`, `mixture`, `quantiles=0.16:0.5:0.84` or `samples` as a form.

    Raises:
        ValueError: the text is none of these; the message says what to write.
    """
    name, equals, rest = (part.strip() for part in text.partition("="))
    kind = next((kind for kind in get_args(PzKind) if kind == name), None)
    if kind is None or bool(equals) == (kind in ("mixture", "samples")):
        raise ValueError("write grid=LOW:HIGH:POINTS, bins=LOW:HIGH:COUNT, quantiles=LEVEL:LEVEL:…, mixture or samples")
    if kind in ("mixture", "samples"):
        return PzForm(kind)
    numbers = _numbers(rest)
    if kind == "quantiles":
        if len(numbers) < 2 or not 0 < numbers[0] < numbers[-1] < 1 or any(a >= b for a, b in pairwise(numbers)):
            raise ValueError("write at least two levels between 0 and 1, the lower first, such as 0.16:0.5:0.84")
        return PzForm(kind, levels=numbers)
    if len(numbers) != 3 or numbers[0] >= numbers[1] or not numbers[2].is_integer() or not _fits(numbers[2], kind):
        raise ValueError(f"write {kind}=LOW:HIGH:COUNT with a count of at most {MAX_POINTS:,}, such as {kind}=0:3:301")
    return PzForm(kind, low=numbers[0], high=numbers[1], points=int(numbers[2]))


def _numbers(text: str) -> tuple[float, ...]:
    parts = text.replace(",", ":").split(":")
    if len(parts) > MAX_POINTS:
        raise ValueError(f"at most {MAX_POINTS:,} levels can be given")
    try:
        found = tuple(float(part) for part in parts)
    except ValueError:
        raise ValueError(f"{text[:40]!r} holds something that is no number") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{text[:40]!r} holds a number that is not finite")
    return found


def _fits(points: float, kind: str) -> bool:
    return 2 <= points <= MAX_POINTS if kind == "grid" else 1 <= points <= MAX_POINTS
