"""What is done with a sample whose input has missing values: the words of `Job.missing`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

PlainAction = Literal["skip", "zero", "fail"]
PLAIN_ACTIONS: tuple[PlainAction, ...] = get_args(PlainAction)
Action = PlainAction | Literal["quantile"]
NOT_FINITE = "NaN or infinite values in {}"
SENTINEL = "values that stand for missing ones in {}"
"""Why a sample has no prediction; `{}` is the column."""
_FORM = "write [COLUMN=]skip, zero, fail or quantile:Q with Q from 0 to 1, such as image=zero"


@dataclass(frozen=True)
class MissingPolicy:
    """`skip`: no prediction; `zero`, `quantile`: the value is replaced; `fail`: the rank fails.

    `quantile` is that of the sample's own other values of the column, from 0 to 1.
    """

    action: Action
    quantile: float = 0.0


SKIP = MissingPolicy("skip")


def parse_missing(policies: Sequence[str]) -> dict[str, MissingPolicy]:
    """Policies by column; "" is the one for all other columns, `skip` if none is given.

    Raises:
        ValueError: a text is no policy, or a column has two.
    """
    found: dict[str, MissingPolicy] = {}
    for text in policies:
        column, _, word = text.rpartition("=")
        if column in found:
            raise ValueError(f"{column or 'the policy for all columns'} is given twice")
        found[column] = _parse(word)
    return {"": SKIP} | found


def _parse(word: str) -> MissingPolicy:
    name, _, level = word.partition(":")
    if name == "quantile":
        try:
            quantile = float(level)
        except ValueError:
            quantile = -1.0
        if 0 <= quantile <= 1:
            return MissingPolicy("quantile", quantile)
    for action in PLAIN_ACTIONS:
        if word == action:
            return MissingPolicy(action)
    raise ValueError(_FORM)
