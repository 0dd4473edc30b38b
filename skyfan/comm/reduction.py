"""Reduce functions: sum, prod, min, max and mean of arrays, element by element, and the caller's own.

Named functions keep the dtype, as in MPI (so sums of int8 wrap, and sums of booleans are "or"); mean turns
integers into float64. A custom function takes two arrays and returns one of the same dtype and shape; its
flags say which orders of evaluation are allowed:

| associative | commutative | evaluated as                                                   |
|-------------|-------------|----------------------------------------------------------------|
| yes         | yes or no   | neighbouring ranks in pairs, always lower rank first (a tree)  |
| no          | yes or no   | f(f(f(rank 0, rank 1), rank 2), rank 3), … exactly             |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyfan.comm.payloads import Array
from skyfan.errors import BadInput

Combine = Callable[[Array, Array], Any]


@dataclass(frozen=True)
class Reduction:
    """A reduce function. `ufunc` is set for the named ones: they may be applied to parts of an array."""

    name: str
    function: Combine
    ufunc: np.ufunc | None = None
    commutative: bool = True
    associative: bool = True

    @property
    def elementwise(self) -> bool:
        """Whether the result of a part of the arrays is that part of the result."""
        return self.ufunc is not None

    def combine(self, lower: Array, higher: Array, out: Array | None = None) -> Array:
        """`function(lower, higher)`, into `out` where given; `lower` comes from the lower ranks."""
        if self.ufunc is not None:
            result: Array = self.ufunc(lower, higher, out=out) if out is not None else self.ufunc(lower, higher)
            return np.asarray(result)
        result = np.ascontiguousarray(self.function(lower, higher))
        result = result.reshape(np.shape(result)) if lower.ndim else result.reshape(())
        if result.dtype != lower.dtype or result.shape != lower.shape:
            raise BadInput(
                f"reduce function {self.name} turned arrays of {lower.dtype} {lower.shape} into {result.dtype} "
                f"{result.shape}; it must keep dtype and shape."
            )
        if out is None:
            return result
        out[...] = result
        return out

    def prepare(self, array: Array) -> Array:
        """The array to reduce; mean needs a floating dtype."""
        if self.name == "mean" and array.dtype.kind in "biu":
            array = array.astype(np.float64)
        if self.ufunc is not None:
            self._require_dtype(array.dtype)
        return array

    def finish(self, array: Array, count: int) -> Array:
        """Turn the reduction over `count` ranks into the result, in place: for a mean, divide by `count`."""
        if self.name == "mean":
            np.divide(array, array.dtype.type(count), out=array)
        return array

    def _require_dtype(self, dtype: np.dtype[Any]) -> None:
        assert self.ufunc is not None
        nothing = np.empty(0, dtype)
        try:
            fits = self.ufunc(nothing, nothing).dtype == dtype
        except TypeError:
            fits = False
        if not fits:
            raise BadInput(f"{self.name} is not defined for arrays of {dtype}; convert them to a numeric dtype first.")


SUM = Reduction("sum", np.add, np.add)
PROD = Reduction("prod", np.multiply, np.multiply)
MIN = Reduction("min", np.minimum, np.minimum)
MAX = Reduction("max", np.maximum, np.maximum)
MEAN = Reduction("mean", np.add, np.add)

_NAMED = {each.name: each for each in (SUM, PROD, MIN, MAX, MEAN)}


def custom(function: Combine, *, commutative: bool, associative: bool) -> Reduction:
    """A reduction by the caller's own function of two arrays."""
    name = getattr(function, "__name__", type(function).__name__)
    return Reduction(name, function, None, commutative, associative)


def as_reduction(op: "str | Reduction") -> Reduction:
    """A reduction by name ("sum", "prod", "min", "max", "mean") or as it is.

    Raises:
        BadInput: there is none of this name.
    """
    if isinstance(op, Reduction):
        return op
    found = _NAMED.get(op)
    if found is None:
        raise BadInput(f"reduce function {op!r} is unknown; use one of {', '.join(_NAMED)} or skyfan.comm.custom(...).")
    return found
