"""A converted model on OpenVINO: read from the run's folder as data, and checked before it predicts anything.

Neither torch nor anything of the model's source is needed. The graph is compiled for this machine, in micro-batches of
one size.
"""

import functools
from collections.abc import Sequence

import numpy as np

from skyfan.engines.base import Engine, EngineInfo
from skyfan.engines.check import Deviation, require_equal
from skyfan.engines.openvino_import import openvino
from skyfan.engines.openvino_lanes import Array, Floats, Lanes, Run, Stage
from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.converted import ConvertedModel, EngineChoice
from skyfan.models.inputs import ModelInputs
from skyfan.models.reference_outputs import check_samples
from skyfan.plain_text import first_line


class Graph:
    """An OpenVINO graph with a free batch dimension, compiled for the shapes of rows that it is given."""

    def __init__(self, model: openvino.Model, choice: EngineChoice, threads: int) -> None:
        self._model, self._choice, self._threads = model, choice, threads
        self._compiled: tuple[tuple[tuple[int, ...], ...], Lanes] | None = None

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, K] of inputs [B, …], in the dtypes that the graph takes."""
        shapes = tuple(values.shape[1:] for values in inputs)
        if self._compiled is None or self._compiled[0] != shapes:
            self._compiled = (shapes, self._lanes(shapes))
        return self._compiled[1].compute(inputs)

    def _lanes(self, shapes: Sequence[tuple[int, ...]]) -> Lanes:
        size, model = self._choice.micro_batch, self._model.clone()
        sizes = {port: [size, *shape] for port, shape in zip(model.inputs, shapes, strict=True)}
        try:
            model.reshape(sizes)
            stage = Stage(openvino.Core(), model, threads=self._threads)
        except RuntimeError as error:
            listed = ", ".join(str(list(shape)) for shape in sizes.values())
            raise ModelError(f"OpenVINO cannot run the model on shapes {listed}: {first_line(error)}") from error
        width = sum(spec.width for spec in self._choice.outputs)
        runs = [functools.partial(_columns, stage.request(), size) for _ in range(self._threads)]
        return Lanes(runs, size, width)


class OpenVINOIREngine(Engine):
    """Runs the OpenVINO form of a model; `ModelError` if what comes out is not what the model's own engine gave."""

    z_column = None

    def __init__(self, converted: ConvertedModel, call: ModelInputs, *, threads: int) -> None:
        choice, reference = converted.choice, converted.reference
        if reference is None or not {"xml", "bin"} <= set(converted.files):
            raise ModelError("the converted model lacks its graph or its reference outputs; remove it and run again.")
        self.call, self._specs = call, choice.outputs
        try:
            model = openvino.Core().read_model(converted.files["xml"], converted.files["bin"])
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot read the converted model: {first_line(error)}") from error
        self._graph = Graph(model, choice, threads)
        samples = check_samples(choice.examples(), len(reference))
        deviation = Deviation.between(self._graph.predict(samples), reference)
        require_equal(deviation, "openvino")
        self.info = EngineInfo(
            name="openvino",
            version=openvino.__version__.partition("-")[0],
            reason=choice.reason,
            precision="float32",
            device="cpu",
            threads=threads,
            torch_version=choice.versions.get("torch"),
            deviation=choice.deviation or deviation.to_dict(),
        )

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:  # noqa: ARG002 - they add up to it
        """Under the names that the model gives its outputs."""
        return self._specs

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, K]."""
        return self._graph.predict(self.call.arrays(inputs))


def _columns(run: Run, size: int, values: Sequence[Array]) -> Floats:
    outputs = [np.asarray(output).reshape(size, -1) for output in run(values)]
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)  # type: ignore[return-value]
