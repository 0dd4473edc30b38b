"""A few seconds of what `python -m tests.fuzz.datasets` and `checkpoints` do for hours."""

import pytest

from skyfan.errors import DatasetError, ModelError
from tests.fuzz import checkpoints, datasets
from tests.fuzz.runner import run


@pytest.mark.parametrize(
    ("target", "allowed"), [(datasets.open_and_read, DatasetError), (checkpoints.load, ModelError)]
)
def test_a_thousand_hostile_files_are_read_or_refused(target, allowed):
    outcomes = run(target, allowed, 1_000, seed=20261126)
    assert outcomes["refused"] > 300


def test_the_generator_makes_datasets_that_can_be_read_too():
    assert run(datasets.open_and_read, DatasetError, 300, seed=1)["read"] > 10
