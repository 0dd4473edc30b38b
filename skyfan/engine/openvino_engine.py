"""AstroMAE on OpenVINO: built here from the loaded weights, and checked against torch before it is used.

Nothing compiled comes from elsewhere: OpenVINO makes its kernels for this machine when it loads the graph.
Samples are computed in micro-batches of one fixed size, one a thread, each small enough for its core's cache,
so that a sample's result does not depend on the batch that it is in.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from skyfan.engine.astromae_graph import AstroMAEGraph, Ranges
from skyfan.engine.base import Engine, EngineInfo
from skyfan.engine.check import Deviation, check_samples, require_equal
from skyfan.engine.weights import Weights
from skyfan.errors import ModelError
from skyfan.models.config import AstroMAEConfig
from skyfan.models.loading import LoadedModel

# Measured (benchmarks/NOTES.md): from 32 to 128 the rate differs by 5%, with its best at 64.
MICRO_BATCH = 64
# Quantiles would clip the few large activations that carry the answer; 1/50 of room for what the sample lacks.
RANGE_MARGIN = 1.02
# torch keeps the memory of the largest batch that it has seen: 4 MB a sample of the published model.
CHECKED_AT_ONCE = 16
Array = NDArray[np.generic]
Floats = NDArray[np.float32]
Run = Callable[[Sequence[Array]], list[Floats]]


class Stage:
    """One compiled graph of fixed shapes."""

    def __init__(self, core: openvino.Core, graph: openvino.Model, *, threads: int, bf16: bool = False) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            # Where ranks share a machine, the scheduler places threads better than a fixed pin.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(graph, "CPU", settings)

    def request(self) -> Run:
        """A function with memory of its own that runs this graph; one for every thread."""
        request = self._compiled.create_infer_request()

        def run(inputs: Sequence[Array]) -> list[Floats]:
            result = request.infer(list(inputs), share_inputs=True, share_outputs=True)
            return [result[place] for place in range(len(result))]

        return run


def supported_precisions() -> tuple[str, ...]:
    """What this machine's processor computes faster than float32, fastest first."""
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in ("int8", "bf16") if name.upper() in offered)


class OpenVINOEngine(Engine):
    """Runs an AstroMAE through OpenVINO's CPU plug-in; `ModelError` if what comes out is not what torch gives.

    `samples` are inputs [B, …] on which a reduced precision is calibrated and its deviation is measured.
    """

    z_column = 0

    def __init__(
        self,
        model: LoadedModel,
        *,
        threads: int,
        precision: str = "float32",
        reason: str,
        samples: Sequence[Array] | None = None,
    ) -> None:
        if model.config is None:
            raise ModelError("the openvino engine runs AstroMAE only; use --engine torch for exported programs")
        self._model = model
        # torch only checks from now on, and its threads would spin beside OpenVINO's: measured, a check of 16
        # samples took 1.0 CPU seconds on two threads and takes 0.1 on one.
        torch.set_num_threads(1)
        probes = [np.asarray(values, np.float32) for values in samples or check_samples(model, CHECKED_AT_ONCE)]
        state = {name: value.numpy() for name, value in model.module.state_dict().items()}
        weights = Weights(state, model.config.batch_norm_eps)
        stages = _stages(weights, model.config, probes, threads=threads, precision=precision)
        self._runs = [[stage.request() for stage in stages] for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="skyfan-openvino")
        self.deviation = Deviation.between(self._compute(probes), _reference(model, probes))
        if precision == "float32":
            require_equal(self.deviation, "openvino")
        self.info = EngineInfo(
            name="openvino",
            version=openvino.__version__.partition("-")[0],
            reason=reason,
            precision=precision,
            device="cpu",
            threads=threads,
            torch_version=torch.__version__,
            deviation=self.deviation.to_dict(),
        )

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """By name."""
        return self._model.bind(tensor_names)

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, 1]."""
        floats = [np.ascontiguousarray(values, dtype=np.float32) for values in inputs]
        self._model.check_shapes([torch.from_numpy(values) for values in floats])
        return self._compute(floats)

    def _compute(self, inputs: Sequence[Floats]) -> Floats:
        out = np.empty((len(inputs[0]), 1), np.float32)
        starts = range(0, len(out), MICRO_BATCH)
        # Lanes take the next micro-batch when they are free: on a busy machine no lane waits for a slower one's share.
        # (`next` of a range's iterator is one step of the interpreter, so that lanes can share it.)
        shared = iter(starts)
        work = [self._pool.submit(self._lane, run, shared, inputs, out) for run in self._runs[: len(starts)]]
        for part in work:
            part.result()
        return out

    def _lane(self, runs: Sequence[Run], starts: Iterator[int], inputs: Sequence[Floats], out: Floats) -> None:
        for start in starts:
            rows = out[start : start + MICRO_BATCH]
            values = [_padded(tensor[start : start + MICRO_BATCH]) for tensor in inputs]
            rows[:] = _chain(runs, values)[: len(rows)]


def _stages(
    weights: Weights, config: AstroMAEConfig, probes: Sequence[Floats], *, threads: int, precision: str
) -> list[Stage]:
    """The graphs to run one after the other. Only the transformer's blocks are ever reduced in precision.

    Raw magnitudes and pixels, and the last layers that scale the redshift, do not survive rounding to 8 bits.
    In bf16 the precision is a setting of a whole graph, hence three of them.
    """
    core = openvino.Core()
    graph = AstroMAEGraph(weights, config, MICRO_BATCH)
    if precision == "bf16":
        middle = Stage(core, graph.middle(), threads=threads, bf16=True)
        return [Stage(core, graph.before(), threads=threads), middle, Stage(core, graph.after(), threads=threads)]
    if precision == "int8":
        graph = AstroMAEGraph(weights, config, MICRO_BATCH, ranges=_calibrate(core, weights, config, probes))
    return [Stage(core, graph.whole(), threads=threads)]


def _reference(model: LoadedModel, probes: Sequence[Floats]) -> torch.Tensor:
    """What torch predicts."""
    parts = zip(*(torch.split(torch.from_numpy(values), CHECKED_AT_ONCE) for values in probes), strict=True)
    return torch.cat([model.predict(*part) for part in parts])


def _calibrate(core: openvino.Core, weights: Weights, config: AstroMAEConfig, probes: Sequence[Floats]) -> Ranges:
    """The range of what enters each matrix product of the blocks, over the probes."""
    graph = AstroMAEGraph(weights, config, MICRO_BATCH, tap=True)
    run = Stage(core, graph.whole(), threads=1).request()
    low = dict.fromkeys(graph.taps, np.inf)
    high = dict.fromkeys(graph.taps, -np.inf)
    for start in range(0, len(probes[0]), MICRO_BATCH):
        _, *values = run([_repeated(tensor[start : start + MICRO_BATCH]) for tensor in probes])
        for name, value in zip(graph.taps, values, strict=True):
            low[name] = min(low[name], float(value.min()))
            high[name] = max(high[name], float(value.max()))
    return {name: (low[name] * RANGE_MARGIN, high[name] * RANGE_MARGIN) for name in graph.taps}


def _chain(runs: Sequence[Run], values: Sequence[Array]) -> Floats:
    if len(runs) == 1:
        return runs[0](values)[0]
    before, middle, after = runs
    tokens, local = before(values)
    return after([*middle([tokens]), local])[0]


def _padded(values: Floats) -> Floats:
    """A micro-batch that is not full, filled up with zeros."""
    if len(values) == MICRO_BATCH:
        return values
    full = np.zeros((MICRO_BATCH, *values.shape[1:]), np.float32)
    full[: len(values)] = values
    return full


def _repeated(values: Floats) -> Floats:
    """A micro-batch that is not full, filled up with its own rows, which adds nothing to a range."""
    return np.resize(values, (MICRO_BATCH, *values.shape[1:]))
