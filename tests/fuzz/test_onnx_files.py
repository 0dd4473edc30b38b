"""The short form of `python -m tests.fuzz.onnx_files --executions N`."""

import pytest

from skyfan.errors import ModelError
from tests.fuzz.runner import run

pytest.importorskip("onnx")


@pytest.mark.slow
def test_hostile_onnx_files_are_refused_in_a_sentence_or_give_what_they_compute():
    from tests.fuzz.onnx_files import load

    outcomes = run(load, ModelError, 150, seed=20261127)
    assert outcomes["refused"] > 60
    assert outcomes["read"] > 30
