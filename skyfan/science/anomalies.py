"""Which samples a model sees as unlike the others: those whose embedding lies far from the rest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_WIDTH = 2048
"""Of an embedding: its covariance has the square of that many numbers."""
_SHRINKAGE = 1e-3

Vectors = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Sample indices [N] and their embeddings [N, D]."""


@dataclass(frozen=True)
class Anomaly:
    """A sample and its Mahalanobis distance from the mean embedding, in standard deviations."""

    index: int
    distance: float


def most_unusual(chunks: Callable[[], Iterator[Vectors]], width: int, count: int) -> list[Anomaly]:
    """The `count` samples with the largest Mahalanobis distance (1936), the largest first.

    `chunks` gives all vectors again from the start: two passes, in memory of D². The covariance is shrunk by a
    thousandth towards a multiple of the identity (Ledoit & Wolf 2004, J. Multivar. Anal. 88, 365, with a fixed part),
    so that dimensions that never vary do no harm.
    """
    rows, mean, scatter = 0, np.zeros(width), np.zeros((width, width))
    for _, vectors in chunks():
        values = vectors.astype(np.float64)
        if not len(values):
            continue
        centre = values.mean(axis=0)
        apart, both = centre - mean, rows + len(values)
        deviation = values - centre
        scatter += deviation.T @ deviation + np.outer(apart, apart) * (rows * len(values) / both)
        mean, rows = mean + apart * (len(values) / both), both
    if rows < 2:
        return []
    covariance = scatter / (rows - 1)
    scale = float(np.trace(covariance)) / width
    if scale <= 0:
        return []
    factor = np.linalg.cholesky((1 - _SHRINKAGE) * covariance + _SHRINKAGE * scale * np.eye(width))
    whitening = np.linalg.inv(factor)  # once, instead of a system of D equations a chunk; well conditioned as shrunk
    best_index, best = np.empty(0, np.int64), np.empty(0)
    for index, vectors in chunks():
        distance = np.linalg.norm(whitening @ (vectors.astype(np.float64) - mean).T, axis=0)
        best_index, best = np.concatenate([best_index, index]), np.concatenate([best, distance])
        order = np.argsort(-best, kind="stable")[:count]
        best_index, best = best_index[order], best[order]
    return [Anomaly(int(index), float(distance)) for index, distance in zip(best_index, best, strict=True)]
