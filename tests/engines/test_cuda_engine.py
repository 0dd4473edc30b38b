"""The GPU's engine, run on the CPU: pieces come back in order, whatever the batch; no GPU is at hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skyfan.engines import create_engine, cuda_engine
from skyfan.engines.cuda_engine import CudaEngine
from skyfan.engines.device import available_device
from skyfan.errors import BadInput
from skyfan.job import RunOptions
from skyfan.models import LoadedModel, load_model
from skyfan.models.conversion import model_bytes
from tests.models.support import inputs, tiny_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    path.write_bytes(model_bytes(tiny_model(), {}))
    return load_model(str(path))


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 23])
def test_pieces_are_put_together_in_order(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(cuda_engine, "PIECE_SAMPLES", 4)
    engine = CudaEngine(loaded, reason="test")
    for seed_shift in (0, 1):  # the second batch finds the buffers as the first one left them
        values = [tensor.numpy() + np.float32(seed_shift) for tensor in inputs(count)]
        expected = loaded.predict(*(torch.from_numpy(v) for v in values)).numpy()
        np.testing.assert_allclose(engine.predict(values), expected, rtol=1e-5, atol=1e-6)


def test_reduced_precision_says_how_far_it_is_off(loaded: LoadedModel) -> None:
    values = [tensor.numpy() for tensor in inputs(16)]
    exact = CudaEngine(loaded, reason="test").predict(values)
    engine = CudaEngine(loaded, precision="bf16", reason="test", samples=values)
    largest = float(np.abs(engine.predict(values) - exact).max())
    assert engine.info.precision == "bf16"
    assert engine.info.deviation is not None
    assert 0 < engine.info.deviation["max_abs"] == pytest.approx(largest, rel=1e-3)


def test_precision_of_products_is_put_back(loaded: LoadedModel) -> None:
    before = torch.get_float32_matmul_precision()
    CudaEngine(loaded, precision="tf32", reason="test").predict([tensor.numpy() for tensor in inputs(2)])
    assert torch.get_float32_matmul_precision() == before


def test_what_does_not_fit_the_device_is_refused(loaded: LoadedModel) -> None:
    on_gpu = replace(loaded, device="cuda")
    with pytest.raises(BadInput, match="runs on CPUs, not on cuda"):
        create_engine(on_gpu, RunOptions(engine="openvino"), threads=1)
    with pytest.raises(BadInput, match="'int8' is not available on cuda"):
        create_engine(on_gpu, RunOptions(precision="int8"), threads=1)
    with pytest.raises(BadInput, match="arithmetic of GPUs"):
        create_engine(loaded, RunOptions(precision="tf32"), threads=1)


def test_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYFAN_DEVICE", raising=False)
    if not torch.cuda.is_available():
        assert available_device() == "cpu"
    assert available_device("cuda") == "cuda"
    monkeypatch.setenv("SKYFAN_DEVICE", "toaster")
    with pytest.raises(BadInput, match="SKYFAN_DEVICE is 'toaster'; give one of auto, cpu, cuda"):
        available_device()
