"""AstroMAE on OpenVINO: built here from the loaded weights, and checked against torch before it is used.

Nothing compiled comes from elsewhere: OpenVINO makes its kernels for this machine when it loads the graph.
Samples are computed in micro-batches of one fixed size, one a thread, each small enough for its core's cache,
so that a sample's result does not depend on the batch that it is in.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from skyfan.engines.base import Engine, EngineInfo
from skyfan.engines.check import Deviation, reference_outputs, require_equal
from skyfan.engines.openvino_graph import GraphBuilder, Ranges, largest_product
from skyfan.engines.openvino_import import openvino
from skyfan.engines.openvino_lanes import Array, Floats, Lanes, Run, Stage
from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.astromae_matrix import MatrixForm, matrix_form
from skyfan.models.loading import LoadedModel
from skyfan.models.mixture import head_outputs

# Measured (benchmarks/NOTES.md): from 32 to 128 the rate differs by 5%, with its best at 64.
MICRO_BATCH = 64
# Quantiles would clip the few large activations that carry the answer; 1/50 of room for what the sample lacks.
RANGE_MARGIN = 1.02


def supports(precision: str) -> bool:
    """Whether this machine's processor computes in this reduced precision, and faster than in float32."""
    core = openvino.Core()
    offered = precision.upper() in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return offered and (precision != "int8" or sums_int8_exactly(core))


def supported_precisions() -> tuple[str, ...]:
    """Those that it supports, fastest first."""
    return tuple(filter(supports, fastest_first(processor_flags())))


def fastest_first(flags: Collection[str]) -> tuple[str, ...]:
    """The reduced precisions in the order of their measured rates.

    Samples per CPU second: with tiles for bf16 (AMX) bf16 982 and int8 774 (benchmarks/NOTES.md, 10), without them 674
    and 795 (benchmarks/results/full.md).
    """
    return ("bf16", "int8") if "amx_bf16" in flags else ("int8", "bf16")


def processor_flags() -> frozenset[str]:
    """The instruction sets that Linux names for an x86 processor; none elsewhere."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def sums_int8_exactly(core: openvino.Core) -> bool:
    """Whether products of int8 are summed in 32 bits, as instructions for neural networks (VNNI, AMX, Arm's) do.

    Without them OpenVINO sums pairs in 16 bits, which overflow: the largest product there is gives half of its value or
    less. Nor are such processors faster in int8 than in float32 (benchmarks/NOTES.md, 13).
    """
    stage = Stage(core, largest_product(MICRO_BATCH), threads=1)
    (product,) = stage.request()([np.ones((MICRO_BATCH, MICRO_BATCH), np.float32)])
    return bool(product.min() > 0.99 * MICRO_BATCH)


class OpenVINOEngine(Engine):
    """Runs an AstroMAE through OpenVINO's CPU plug-in; `ModelError` if what comes out is not what torch gives.

    `samples` are inputs [B, …] on which a reduced precision is calibrated and its deviation from float32 is
    measured. Nothing of the model but its inputs is kept: the weights are OpenVINO's from then on.
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
        self.call = model.call
        self._width = model.config.head_width
        compiler = _Compiler(openvino.Core(), matrix_form(model.weights, model.config), threads)
        checked, expected = reference_outputs(model)
        if precision == "float32":
            self._lanes = compiler.float32()
            self.deviation = Deviation.between(self._lanes.compute(checked), expected)
            require_equal(self.deviation, "openvino")
        else:
            exact = compiler.observer()
            require_equal(Deviation.between(exact(checked), expected), "openvino")
            probes = [np.asarray(values, np.float32) for values in samples or checked]
            wanted = exact(probes)
            self._lanes = compiler.reduced(precision, exact.ranges())
            self.deviation = Deviation.between(self._lanes.compute(probes), wanted)
        self.info = EngineInfo(
            name="openvino",
            version=openvino.__version__.partition("-")[0],
            reason=reason,
            precision=precision,
            device="cpu",
            threads=threads,
            torch_version=_torch_version(),
            deviation=self.deviation.to_dict(),
        )

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, width]."""
        return self._lanes.compute(self.call.arrays(inputs))

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:
        """The redshift, and what describes its p(z)."""
        return head_outputs(width)

    def output_width(self, blank: Sequence[Array]) -> int:
        """That of the model's head: no micro-batch is computed to find that out."""
        self.call.arrays(blank)
        return self._width


@dataclass(frozen=True)
class _Compiler:
    """Compiles the graphs of one model. In int8 the transformer's blocks are reduced, in bf16 the image's branch too.

    Raw magnitudes, and the last layers that scale the redshift, survive neither; raw pixels do not survive 8 bits.
    """

    core: openvino.Core
    form: MatrixForm
    threads: int

    def float32(self) -> Lanes:
        """The graphs to run one after the other, once for every thread."""
        return self._lanes([self._stage(self._graph().whole())])

    def reduced(self, precision: str, ranges: Ranges) -> Lanes:
        """The same in int8 between `ranges`, or in bf16, which is a setting of a whole graph."""
        if precision == "int8":
            return self._lanes([self._stage(self._graph(ranges=ranges).whole())])
        graph = self._graph(bf16=True)
        return self._lanes([self._stage(graph.from_image(), bf16=True), self._stage(graph.head())])

    def observer(self) -> "RangeObserver":
        """Float32 on one thread, that shows what goes into each matrix product."""
        graph = self._graph(tap=True)
        stage = Stage(self.core, graph.whole(), threads=1)
        return RangeObserver(stage.request(), tuple(graph.taps), self.form.config.head_width)

    def _graph(self, *, ranges: Ranges | None = None, bf16: bool = False, tap: bool = False) -> GraphBuilder:
        return GraphBuilder(self.form, MICRO_BATCH, ranges=ranges, bf16=bf16, tap=tap)

    def _stage(self, graph: openvino.Model, *, bf16: bool = False) -> Stage:
        return Stage(self.core, graph, threads=self.threads, bf16=bf16)

    def _lanes(self, stages: Sequence[Stage]) -> Lanes:
        chains = [[stage.request() for stage in stages] for _ in range(self.threads)]
        return Lanes([functools.partial(_chain, runs) for runs in chains], MICRO_BATCH, self.form.config.head_width)


class RangeObserver:
    """Float32 predictions, and the range of what entered each matrix product of the blocks meanwhile."""

    def __init__(self, run: Run, names: Sequence[str], width: int) -> None:
        self._run = run
        self._width = width
        self._names = names
        self._low = dict.fromkeys(names, np.inf)
        self._high = dict.fromkeys(names, -np.inf)

    def __call__(self, inputs: Sequence[Floats]) -> Floats:
        """Outputs [B, width]; the ranges are those of these inputs alone."""
        self._low, self._high = dict.fromkeys(self._names, np.inf), dict.fromkeys(self._names, -np.inf)
        out = np.empty((len(inputs[0]), self._width), np.float32)
        for start in range(0, len(out), MICRO_BATCH):
            rows = out[start : start + MICRO_BATCH]
            z, *values = self._run([_repeated(tensor[start : start + MICRO_BATCH]) for tensor in inputs])
            rows[:] = z[: len(rows)]
            for name, value in zip(self._names, values, strict=True):
                self._low[name] = min(self._low[name], float(value.min()))
                self._high[name] = max(self._high[name], float(value.max()))
        return out

    def ranges(self) -> Ranges:
        """Of the last inputs, with some room."""
        return {name: (self._low[name] * RANGE_MARGIN, self._high[name] * RANGE_MARGIN) for name in self._names}


def _torch_version() -> str | None:
    """Of the torch that is installed, without importing it; None where there is none."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _chain(runs: Sequence[Run], values: Sequence[Array]) -> Floats:
    if len(runs) == 1:
        return runs[0](values)[0]  # type: ignore[return-value] # these graphs put out float32
    from_image, head = runs
    image, magnitude = values
    return head([*from_image([image]), magnitude])[0]  # type: ignore[return-value]


def _repeated(values: Floats) -> Floats:
    """A micro-batch that is not full, filled up with its own rows, which adds nothing to a range."""
    return np.resize(values, (MICRO_BATCH, *values.shape[1:]))
