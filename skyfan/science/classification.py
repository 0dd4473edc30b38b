"""What is counted of predicted classes: how many of each, how sure, and how right."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_BINS = 20
CALIBRATION_BINS = 15
"""As Guo et al. 2017 (ICML, PMLR 70, 1321) take for the expected calibration error."""

Numbers = NDArray[np.int64]


@dataclass
class ClassTally:
    """Counts over all rows, rank by rank.

    `confusion` is [true, predicted]; `of_bins` [bins, 3] has galaxies, the sum of their confidences and how many are
    right, in bins of confidence.
    """

    names: Sequence[str]
    counts: Numbers = field(init=False)
    confusion: Numbers = field(init=False)
    confidence: Numbers = field(default_factory=lambda: np.zeros(CONFIDENCE_BINS, np.int64))
    of_bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros((CALIBRATION_BINS, 3)))

    def __post_init__(self) -> None:
        size = len(self.names)
        self.counts, self.confusion = np.zeros(size, np.int64), np.zeros((size, size), np.int64)

    def add(self, predicted: Numbers, confidence: NDArray[np.floating], true: Numbers) -> None:
        """Further galaxies [N] by number of their class; `true` is −1 where it is not known."""
        size = len(self.names)
        self.counts += np.bincount(predicted, minlength=size)
        self.confidence += np.histogram(confidence, CONFIDENCE_BINS, (0, 1))[0]
        known = true >= 0
        pairs = true[known] * size + predicted[known]
        self.confusion += np.bincount(pairs, minlength=size * size).reshape(size, size)
        sure = confidence[known].astype(np.float64)
        bins = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        for column, weights in enumerate((np.ones(len(sure)), sure, (true == predicted)[known].astype(np.float64))):
            self.of_bins[:, column] += np.bincount(bins, weights, CALIBRATION_BINS)

    @property
    def labelled(self) -> int:
        """Galaxies whose class is known."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float | None:
        """The part of them that is right; None where there are none."""
        return float(np.trace(self.confusion) / self.labelled) if self.labelled else None

    @property
    def calibration_error(self) -> float | None:
        """ECE: the mean over galaxies of |accuracy − mean confidence| of their bin (Guo et al. 2017, equation 3)."""
        if not self.labelled:
            return None
        return float(np.abs(self.of_bins[:, 2] - self.of_bins[:, 1]).sum() / self.labelled)
