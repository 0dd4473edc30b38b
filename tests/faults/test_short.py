"""A cell of each kind of the fault matrix; `make faults` runs all of it."""

import os

import pytest

from tests.conftest import make_sample
from tests.faults.cells import all_cells, short_cells
from tests.faults.runner import SAMPLES, Matrix
from tests.faults.s3_server import s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, small_model):
    folder = tmp_path_factory.mktemp("faults")
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Matrix(folder, make_sample(folder / "data.pt", SAMPLES).path, small_model, environment)


@pytest.mark.parametrize("cell", short_cells(), ids=str)
def test_nothing_is_lost_and_nothing_is_silent(matrix, cell):
    if cell.fault == "disk" and os.geteuid():
        pytest.skip("a small file system is mounted by root only")
    assert matrix.run(cell, seed=1) == []


def test_there_are_enough_cells():
    assert len(set(all_cells())) >= 120
    assert set(short_cells()) <= set(all_cells())
