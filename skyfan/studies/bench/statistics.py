"""Medians with their spread: minimum, maximum and a bootstrap interval."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from skyfan.errors import BadInput

_RESAMPLES = 2000
_LEVEL = (2.5, 97.5)


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """Of repeated measurements. `low` to `high` is the 95% bootstrap interval of the median."""

    count: int
    median: float
    minimum: float
    maximum: float
    low: float
    high: float


def summarise(values: Sequence[float], seed: int = 0) -> Stat:
    """The median of the values and how sure it is; reproducible by its seed.

    Raises:
        BadInput: there are no values.
    """
    if not values:
        raise BadInput("no measurements to summarise.")
    array = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(array), (_RESAMPLES, len(array)))
    low, high = np.percentile(np.median(array[picks], axis=1), _LEVEL)
    return Stat(len(array), float(np.median(array)), float(array.min()), float(array.max()), float(low), float(high))
