"""A few seconds of what `python -m tests.fuzz.formats` does for hours."""

import functools

import pytest

from skyfan.errors import DatasetError
from tests.fuzz.formats import FORMATS, open_and_read
from tests.fuzz.runner import run


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_read_or_refused(suffix):
    # HDF5 is described in a child each time, which takes a second
    executions = 4 if suffix == ".h5" else 400
    outcomes = run(functools.partial(open_and_read, suffix=suffix), DatasetError, executions, seed=20261126)
    assert outcomes["refused"]
