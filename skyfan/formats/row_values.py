"""Checks on the values of rows, for every dtype that a dataset can hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def finite_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the rows [N, …] hold no NaN and no infinity, as bool [N]."""
    if rows.dtype.kind in "biu":
        return np.ones(len(rows), dtype=np.bool_)
    finite: NDArray[np.bool_] = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    return finite


def real_values(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows [N, …] as [N, values] of NumPy's own real types; real and imaginary parts count as values each."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    if flat.dtype.kind == "c":
        return flat.view(flat.real.dtype)
    return flat if flat.dtype.kind in "biuf" else flat.astype(np.float32)
