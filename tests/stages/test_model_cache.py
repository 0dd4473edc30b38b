"""A server keeps its model from rank to rank, but never one that the file no longer holds."""

import shutil
import threading

import pytest
import torch

from skyfan.errors import LocationError, ModelError
from skyfan.stages.model_cache import ModelCache


@pytest.fixture
def replaceable(small_model, tmp_path):
    path = tmp_path / "model.pt"
    shutil.copy(small_model, path)
    return path


def replace(path):
    state = torch.load(path, weights_only=True)
    torch.save({name: value * 2 if value.is_floating_point() else value for name, value in state.items()}, path)


def test_a_model_is_loaded_once(replaceable):
    cache = ModelCache(threads=1)
    first = cache.model(str(replaceable))
    assert cache.model(str(replaceable)) is first
    assert cache.model(str(replaceable), first.digest) is first


def test_a_new_run_sees_a_model_that_was_replaced_under_the_same_name(replaceable):
    cache = ModelCache(threads=1)
    before = cache.model(str(replaceable)).digest
    replace(replaceable)
    assert cache.model(str(replaceable)).digest != before


def test_a_run_that_was_planned_with_another_model_is_refused(replaceable):
    planned = ModelCache(threads=1).model(str(replaceable)).digest
    replace(replaceable)
    with pytest.raises(ModelError, match="changed since the run was planned"):
        ModelCache(threads=1).model(str(replaceable), planned)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_once_and_not_by_its_start(small_model, capfd):
    cache = ModelCache(threads=1, device="cuda")
    for thread in threading.enumerate():
        if thread.name == "skyfan-cuda-start":
            thread.join(60)
    with pytest.raises(LocationError, match="the device 'cuda' cannot be used"):
        cache.model(str(small_model))
    assert capfd.readouterr() == ("", "")
