"""Every converted model is compared with torch before it predicts anything."""

from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skyfan.errors import ModelError
from skyfan.models.loading import LoadedModel

# |z − z_torch| ≤ this · max(1, |z_torch|), the bound that all float32 engines share.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Deviation:
    """How far an engine's outputs are from torch's on the same samples, in units of the output."""

    samples: int
    max_abs: float
    p999_abs: float
    relative: float
    """Largest |z − z_torch| / max(1, |z_torch|)."""

    @classmethod
    def between(cls, found: NDArray[np.float32], expected: Tensor) -> Self:
        """Of outputs [B, width] against torch's."""
        reference = expected.detach().cpu().numpy().astype(np.float64).reshape(len(expected), -1)
        difference = np.abs(found.astype(np.float64) - reference)
        if not np.isfinite(difference).all():
            return cls(len(found), np.inf, np.inf, np.inf)
        return cls(
            samples=len(found),
            max_abs=float(difference.max()),
            p999_abs=float(np.quantile(difference, 0.999)),
            relative=float((difference / np.maximum(1, np.abs(reference))).max()),
        )

    def to_dict(self) -> dict[str, float]:
        """For the rank record."""
        return asdict(self)


class DeviatesFromTorch(ModelError):
    """A float32 engine whose outputs are not torch's."""


def require_equal(deviation: Deviation, engine: str) -> None:
    """Raises `DeviatesFromTorch` beyond `TOLERANCE`."""
    if deviation.relative > TOLERANCE:
        raise DeviatesFromTorch(
            f"the {engine} engine deviates from torch by {deviation.relative:.1e}, more than {TOLERANCE:.0e}, on this "
            "model and machine; use --engine torch"
        )


def check_samples(model: LoadedModel, count: int) -> list[NDArray[np.float32]]:
    """Inputs to compare engines on: noise of the size of SDSS fluxes, magnitudes from 14 to 22; always the same."""
    rng = np.random.default_rng(0)
    found = []
    for wanted in model.inputs:
        noise = rng.random((count, *(size or 1 for size in wanted.shape[1:])), dtype=np.float32)
        values = 14 + 8 * noise if wanted.name == "magnitude" else np.expm1(4 * noise) / 10
        found.append(values.astype(np.float32))
    return found
