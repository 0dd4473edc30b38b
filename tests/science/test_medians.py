"""Medians of values that are given in pieces."""

import numpy as np
import pytest

from skyfan.science.medians import streamed_median

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=10_001),
        RANDOM.normal(size=10_000),
        RANDOM.normal(1e-3, 1e-9, size=999),
        np.repeat([-0.0, 0.0, 5.0], [400, 401, 10]),
        np.array([-3.0, 7.0]),
        np.array([2.5]),
        np.array([-1e300, 1e-300, 1e300, -1e-300]),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_it_is_numpys(values, pieces):
    assert streamed_median(lambda: iter(np.array_split(values, pieces))) == np.median(values)


def test_without_values_it_is_not_a_number():
    assert np.isnan(streamed_median(lambda: iter([np.empty(0)])))
