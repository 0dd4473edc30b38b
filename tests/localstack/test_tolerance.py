"""The rule of a distributed map's tolerance; the map itself is tested in test_distributed_map.py."""

import pytest
from skyfan_localstack.stepfunctions.tolerance import exceeded


@pytest.mark.parametrize(
    ("failed", "total", "count", "percentage", "fails"),
    [
        (0, 10, 0, 0, False),
        (1, 10, 0, 0, True),
        (2, 40, 0, 5, False),
        (3, 40, 0, 5, True),
        (3, 10, 3, 0, False),
        (4, 10, 3, 0, True),
        (4, 40, 3, 50, True),
        (10, 10, 0, 100, False),
    ],
)
def test_tolerance(failed, total, count, percentage, fails):
    assert exceeded(failed, total, count, percentage) is fails
