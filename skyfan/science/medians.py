"""Exact medians of more values than memory holds."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Chunks = Callable[[], Iterator[NDArray[np.float64]]]
"""Gives the same values [N] again from the start, in pieces."""

# 4 Mi counters, 32 MB; a bin is 1/1024 of its values' size wide.
_BIN_BITS = 22
_SIGN = np.uint64(1 << 63)


def streamed_median(chunks: Chunks) -> float:
    """The median of finite values, as `np.median` gives it; NaN where there are none.

    Two passes: one counts values in bins of their leading bits, the other collects those of the bins in the middle,
    equal values once. Memory is that of the different values in these bins.
    """
    counts = np.zeros(1 << _BIN_BITS, np.int64)
    for values in chunks():
        counts += np.bincount(_bins(values), minlength=len(counts))
    total = int(counts.sum())
    if not total:
        return float("nan")
    ends = np.cumsum(counts)
    middle = ((total - 1) // 2, total // 2)
    first, last = (int(np.searchsorted(ends, rank, side="right")) for rank in middle)
    found, repeats = np.empty(0), np.empty(0, np.int64)
    for values in chunks():
        bins = _bins(values)
        inside = np.concatenate([found, values[(bins >= first) & (bins <= last)]])
        weights = np.concatenate([repeats, np.ones(len(inside) - len(found), np.int64)])
        found, position = np.unique(inside, return_inverse=True)
        repeats = np.bincount(position, weights=weights).astype(np.int64)
    before = int(ends[first] - counts[first])
    below = np.cumsum(repeats)
    low, high = (found[int(np.searchsorted(below, rank - before, side="right"))] for rank in middle)
    return float((low + high) / 2)


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The leading bits of each value, such that they are ordered as the values are."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)  # + 0.0: −0 becomes 0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
