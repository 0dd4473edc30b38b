"""AstroMAE on OpenVINO: converted here from the loaded weights, and checked against torch before it is used.

Nothing compiled comes from elsewhere: the graph is traced from our own form of the model and OpenVINO makes
its kernels for this machine when it loads it. Samples are computed in micro-batches of one fixed size, one a
thread, each small enough to stay in its core's cache.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skyfan.engine.base import Engine, EngineInfo
from skyfan.engine.check import Deviation, check_samples, require_equal
from skyfan.engine.gemm_form import GemmAstroMAE, gemm_form
from skyfan.errors import ModelError
from skyfan.models.astromae import AstroMAE
from skyfan.models.loading import LoadedModel

# Measured (benchmarks/NOTES.md): from 32 to 128 the rate differs by 5%, with its best at 64.
MICRO_BATCH = 64
Array = NDArray[np.generic]


class _Part(nn.Module):
    """One step of the model as a module of its own, for tracing."""

    def __init__(self, form: GemmAstroMAE, step: Callable[..., Any]) -> None:
        super().__init__()
        self.form = form
        self._step = step

    def forward(self, *values: Tensor) -> Any:
        return self._step(*values)


class Stage:
    """One compiled graph of fixed shapes."""

    def __init__(self, core: openvino.Core, graph: openvino.Model, *, threads: int, precision: str) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # Where ranks share a machine, the scheduler places threads better than a fixed pin.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(graph, "CPU", settings)

    def request(self) -> Callable[[Sequence[Array]], list[Array]]:
        """A function of its own memory that runs this graph; one for every thread."""
        request = self._compiled.create_infer_request()

        def run(inputs: Sequence[Array]) -> list[Array]:
            result = request.infer(list(inputs), share_inputs=True, share_outputs=True)
            return [result[place] for place in range(len(result))]

        return run


def convert(part: nn.Module, example: tuple[Tensor, ...]) -> openvino.Model:
    """The OpenVINO graph of a module for inputs of exactly these shapes."""
    with torch.no_grad():
        return openvino.convert_model(part, example_input=example, input=[list(value.shape) for value in example])


def supported_precisions() -> frozenset[str]:
    """What this machine's processor computes faster than float32, of `bf16` and `int8`."""
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return frozenset({"BF16": "bf16", "INT8": "int8"}[name] for name in offered if name in ("BF16", "INT8"))


class OpenVINOEngine(Engine):
    """Runs an AstroMAE through OpenVINO's CPU plug-in; `ModelError` if what comes out is not what torch gives."""

    z_column = 0

    def __init__(self, model: LoadedModel, *, threads: int, precision: str, reason: str) -> None:
        if not isinstance(model.module, AstroMAE):
            raise ModelError("the openvino engine runs AstroMAE only; use --engine torch for exported programs")
        self._model = model
        self._width = 1
        samples = check_samples(model, MICRO_BATCH)
        stages = _stages(gemm_form(model.module), samples, threads=threads, precision=precision)
        self._runs = [[stage.request() for stage in stages] for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="skyfan-openvino")
        deviation = Deviation.between(self._compute(samples), model.predict(*samples))
        if precision == "float32":
            require_equal(deviation, "openvino")
        self.info = EngineInfo(
            name="openvino",
            version=openvino.__version__.partition("-")[0],
            reason=reason,
            precision=precision,
            device="cpu",
            threads=threads,
            torch_version=torch.__version__,
            deviation=deviation.to_dict(),
        )

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """By name."""
        return self._model.bind(tensor_names)

    def predict(self, inputs: Sequence[Array]) -> NDArray[np.float32]:
        """Outputs [B, 1]."""
        tensors = [torch.from_numpy(np.ascontiguousarray(values)) for values in inputs]
        self._model.check_shapes(tensors)
        return self._compute(tensors)

    def _compute(self, tensors: Sequence[Tensor]) -> NDArray[np.float32]:
        inputs = [tensor.numpy().astype(np.float32, copy=False) for tensor in tensors]
        count, lanes = len(inputs[0]), len(self._runs)
        out = np.empty((count, self._width), np.float32)
        starts = range(0, count, MICRO_BATCH)
        work = [
            self._pool.submit(self._lane, lane, starts[lane::lanes], inputs, out)
            for lane in range(min(lanes, len(starts)))
        ]
        for part in work:
            part.result()
        return out

    def _lane(self, lane: int, starts: Sequence[int], inputs: list[NDArray[np.float32]], out: Array) -> None:
        for start in starts:
            values = [_padded(tensor[start : start + MICRO_BATCH]) for tensor in inputs]
            result = _chain(self._runs[lane], values)
            rows = out[start : start + MICRO_BATCH]
            rows[:] = result[: len(rows)]


def _stages(form: GemmAstroMAE, samples: tuple[Tensor, ...], *, threads: int, precision: str) -> list[Stage]:
    """One graph in float32; else three, of which only the transformer's blocks have the reduced precision.

    Raw magnitudes and pixels, and the last layers that scale the redshift, do not survive rounding to 8 bits.
    """
    core = openvino.Core()
    if precision == "float32":
        return [Stage(core, convert(form, samples), threads=threads, precision=precision)]
    with torch.inference_mode():
        tokens, local = form.before(*samples)
        pooled = form.middle(tokens)
    steps = (
        (_Part(form, form.before), samples, "float32"),
        (_Part(form, form.middle), (tokens.clone(),), precision),
        (_Part(form, form.after), (pooled.clone(), local.clone()), "float32"),
    )
    return [Stage(core, convert(part, values), threads=threads, precision=kind) for part, values, kind in steps]


def _chain(runs: Sequence[Callable[[Sequence[Array]], list[Array]]], values: Sequence[Array]) -> Array:
    if len(runs) == 1:
        return runs[0](values)[0]
    before, middle, after = runs
    tokens, local = before(values)
    return after([*middle([tokens]), local])[0]


def _padded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last micro-batch of a batch, filled up with zeros, which cost little and change nothing."""
    if len(values) == MICRO_BATCH:
        return values
    full = np.zeros((MICRO_BATCH, *values.shape[1:]), np.float32)
    full[: len(values)] = values
    return full
