"""Intervals that hold a given part of the redshifts, by split-conformal calibration.

Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World"; Lei et al. 2018, JASA 113, 1094; of intervals
that a model gives itself: Romano, Patterson & Candès 2019, NeurIPS 32 ("conformalized quantile regression"). The
promise: of galaxies that are drawn as those of the calibration are, at least `LEVEL` lie inside, whatever the model.
"""

import math

import numpy as np
from numpy.typing import NDArray

from skyfan.science.sentinels import known_redshifts

LEVEL = 0.68
FEWEST_GALAXIES = 50
"""Of fewer the calibrated part varies by more than 7% (one standard deviation of a beta distribution)."""

Values = NDArray[np.float64]


def conformity_scores(z_pred: Values, z_low: Values, z_high: Values, z_spec: Values) -> Values:
    """By how much, in 1 + z_pred, intervals [N] must grow at both ends to hold their galaxies; [M] known ones.

    For a model that gives points both ends are `z_pred`. The unit is 1 + z_pred and not 1 + z_spec, which is not known
    of the galaxies that the intervals are for.
    """
    spec = known_redshifts(z_spec)
    known = np.isfinite(spec) & np.isfinite(z_pred)
    outside = np.maximum(z_low - spec, spec - z_high)[known]
    return np.asarray(outside / (1 + z_pred[known]), np.float64)


def half_width(scores: Values) -> float:
    """The growth that at least `LEVEL` of further galaxies need at most: the ⌈(n + 1) · LEVEL⌉-th smallest of n scores.

    It is rounded to six digits, below which machines differ.

    Raises:
        ValueError: there are fewer than `FEWEST_GALAXIES`.
    """
    if len(scores) < FEWEST_GALAXIES:
        raise ValueError(f"{len(scores)} galaxies have a prediction and a known redshift, {FEWEST_GALAXIES} are needed")
    position = math.ceil(round((len(scores) + 1) * LEVEL, 9))  # 75 * 0.68 is 51.00000000000001
    return float(f"{np.sort(scores)[position - 1]:.6g}")
