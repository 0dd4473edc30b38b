"""Which rows are finite, for every dtype that a dataset can hold."""

import ml_dtypes
import numpy as np
import pytest

from skyfan.dtypes import DTYPES, numpy_dtype
from skyfan.formats.row_values import finite_rows, real_values


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_rows_of_ones_are_finite_in_every_dtype(name):
    rows = np.ones((3, 2, 2), numpy_dtype(name))
    assert finite_rows(rows).tolist() == [True] * 3
    assert real_values(rows).shape[0] == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_makes_its_row_so(dtype, value):
    rows = np.ones((3, 2, 2), dtype)
    rows[1, 0, 1] = value
    assert finite_rows(rows).tolist() == [True, False, True]


def test_scalars_are_rows():
    assert finite_rows(np.array([1.0, np.nan])).tolist() == [True, False]


def test_real_and_imaginary_parts_are_values_each():
    assert real_values(np.array([[1 + 2j]])).tolist() == [[1.0, 2.0]]
