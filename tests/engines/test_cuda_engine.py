"""The GPU's engine, run on the CPU: pieces come back in order, whatever the batches; no GPU is at hand."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skyfan.engines import create_engine
from skyfan.engines.cuda_engine import PRECISIONS, CudaEngine
from skyfan.errors import BadInput, DeviceLost, ModelError
from skyfan.job import RunOptions
from skyfan.models.loading import LoadedModel
from tests.engines.support import inputs, loaded_model

PIECE = 32


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(loaded: LoadedModel) -> CudaEngine:
    return CudaEngine(loaded, reason="test", piece_samples=PIECE)


def batches(values: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    return ([part[start : start + size] for part in values] for start in range(0, len(values[0]), size))


def as_program(loaded: LoadedModel, module: nn.Module) -> LoadedModel:
    """A model of the user's own, with AstroMAE's inputs: run by torch as it is."""
    return replace(loaded, config=None, program=module)


@pytest.mark.parametrize("count", [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3])
def test_outputs_are_the_models_in_the_order_of_the_samples(
    loaded: LoadedModel, engine: CudaEngine, count: int
) -> None:
    for seed in (0, 1):  # the second batch finds the slots as the first one left them
        values = inputs(count, seed)
        expected = loaded.predict(*(torch.from_numpy(v) for v in values)).numpy()
        np.testing.assert_allclose(engine.predict(values), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, PIECE, 50, 1000])
def test_equal_pieces_have_the_same_bits_in_batches_of_any_size(engine: CudaEngine, size: int) -> None:
    values = inputs(4 * PIECE + 5)
    whole = engine.predict(values)
    found = list(engine.stream(batches(values, size)))
    assert [len(part) for part in found] == [len(part[0]) for part in batches(values, size)]
    np.testing.assert_array_equal(np.concatenate(found), whole)


def test_other_pieces_differ_by_rounding_only(loaded: LoadedModel, engine: CudaEngine) -> None:
    values = inputs(4 * PIECE + 5)
    whole = engine.predict(values)
    for piece in (1, 3, 17, 128, 1024):
        found = CudaEngine(loaded, reason="test", piece_samples=piece).predict(values)
        assert (np.abs(found - whole) <= 1e-5 * np.maximum(1, np.abs(whole))).all(), piece


def test_a_batch_may_be_overwritten_when_the_next_one_is_asked_for(engine: CudaEngine) -> None:
    values = inputs(3 * PIECE + 5)
    expected = engine.predict(values)

    def reused() -> Iterator[list[np.ndarray]]:
        buffers = [np.empty_like(part[:20]) for part in values]
        for batch in batches(values, 20):
            for buffer, part in zip(buffers, batch, strict=True):
                buffer[: len(part)] = part
            yield [buffer[: len(batch[0])] for buffer in buffers]
            for buffer in buffers:
                buffer.fill(np.nan)

    np.testing.assert_array_equal(np.concatenate(list(engine.stream(reused()))), expected)


def test_an_abandoned_stream_leaves_nothing_to_the_next_one(engine: CudaEngine) -> None:
    values = inputs(6 * PIECE)
    expected = engine.predict(values)
    stream = engine.stream(batches(values, 10))
    next(stream)
    stream.close()
    np.testing.assert_array_equal(engine.predict(values), expected)


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "float32"])
def test_reduced_precision_reports_how_far_it_is_off(loaded: LoadedModel, engine: CudaEngine, precision: str) -> None:
    values = inputs(100)
    reduced = CudaEngine(loaded, precisions=(precision,), reason="test", samples=values)
    difference = np.abs(reduced.predict(values) - engine.predict(values))
    assert reduced.info.precision == precision
    assert reduced.info.deviation is not None
    assert reduced.info.deviation["max_abs"] == pytest.approx(float(difference.max()), rel=1e-2, abs=1e-6)
    assert difference.max() < {"tf32": 2e-4, "fp16": 1e-3, "bf16": 1e-2}[precision]


def test_auto_takes_the_first_precision_that_is_accurate_enough(loaded: LoadedModel) -> None:
    values = inputs(64)
    on_device: dict[str, Callable[..., CudaEngine]] = {
        "fp16": lambda: CudaEngine(loaded, precisions=("fp16", "tf32"), max_deviation=1.0, reason="", samples=values),
        "float32": lambda: CudaEngine(loaded, precisions=("bf16",), max_deviation=1e-9, reason="", samples=values),
    }
    for expected, make in on_device.items():
        assert make().info.precision == expected
    untried = CudaEngine(loaded, precisions=("fp16",), max_deviation=1.0, reason="")
    assert untried.info.precision == "float32"
    assert "could not be tried" in untried.info.reason


class _SmallMemory(nn.Module):
    """A card whose memory is short beyond `most` samples at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, []

    def forward(self, image: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(image))
        if len(image) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return torch.cat((image[:, :1, 0, 0], magnitude), 1)


def test_out_of_memory_halves_the_piece_once_and_is_recorded(loaded: LoadedModel) -> None:
    module = _SmallMemory(most=64)
    engine = CudaEngine(as_program(loaded, module), reason="test", piece_samples=256)
    image, magnitude = inputs(1000)
    found = np.concatenate(list(engine.stream(batches([image, magnitude], 300))))
    np.testing.assert_array_equal(found, np.concatenate((image[:, :1, 0, 0], magnitude), 1))
    assert [size for size in module.seen if size > 64] == [256, 128], "it must not try again what failed"
    assert engine.info.piece_samples == 64
    assert "out of memory with 128 samples at once, 64 from then on" in engine.info.reason


def test_memory_that_one_sample_exceeds_is_an_error(loaded: LoadedModel) -> None:
    engine = CudaEngine(as_program(loaded, _SmallMemory(most=0)), reason="test", piece_samples=4)
    with pytest.raises(ModelError, match="does not suffice for one sample of this model; use a GPU with more memory"):
        engine.predict(inputs(3))


class _Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceLost, "tried again in a new process"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), DeviceLost, "illegal memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ModelError, "the model failed on cpu: mat1"),
    ],
)
def test_a_lost_card_is_worth_another_try_and_a_failing_model_is_not(
    loaded: LoadedModel, error: Exception, expected: type[Exception], message: str
) -> None:
    engine = CudaEngine(as_program(loaded, _Failing(error)), reason="test")
    with pytest.raises(expected, match=message):
        engine.predict(inputs(2))


def test_precision_of_products_is_put_back(loaded: LoadedModel) -> None:
    before = torch.get_float32_matmul_precision()
    CudaEngine(loaded, precisions=("tf32",), reason="test").predict(inputs(2))
    assert torch.get_float32_matmul_precision() == before


def test_what_does_not_fit_the_device_is_refused(loaded: LoadedModel) -> None:
    on_gpu = replace(loaded, device="cuda")
    with pytest.raises(BadInput, match="runs on CPUs, not on cuda"):
        create_engine(on_gpu, RunOptions(engine="openvino"), threads=1)
    with pytest.raises(BadInput, match="'int8' is not available on cuda"):
        create_engine(on_gpu, RunOptions(precision="int8"), threads=1)
    for precision in ("tf32", "fp16"):
        with pytest.raises(BadInput, match="arithmetic of GPUs"):
            create_engine(loaded, RunOptions.model_validate({"precision": precision}), threads=1)
    with pytest.raises(BadInput, match="--compile is for GPUs"):
        create_engine(loaded, RunOptions(compile=True), threads=1)


class _Brightness(nn.Module):
    """As small as a model can be: compiling AstroMAE takes a minute."""

    def forward(self, image: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
        return torch.cat((image.sum((1, 2, 3))[:, None], magnitude), 1).relu()


@pytest.mark.slow
def test_compiled_model_predicts_the_same_from_a_cache_of_its_own(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    values, model = inputs(PIECE + 5), as_program(loaded, _Brightness())
    compiled = CudaEngine(model, reason="test", piece_samples=PIECE, compiled=True)
    expected = CudaEngine(model, reason="test", piece_samples=PIECE).predict(values)
    np.testing.assert_allclose(compiled.predict(values), expected, rtol=1e-5, atol=1e-4)
    assert compiled.info.compiled
    assert [path.name.startswith(loaded.digest[:32]) for path in (tmp_path / "skyfan/inductor").iterdir()] == [True]
    assert any((tmp_path / "skyfan/inductor").rglob("*.so")), "what was compiled is not kept there"
