"""In the child of `conversion`: converts a checked model, compares OpenVINO with its own engine, and times both."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.check import TOLERANCE, Deviation
from skyfan.engines.conversion import SAMPLES, SOURCE, Asked
from skyfan.engines.conversion_source import Source, onnx_source, program_source
from skyfan.engines.openvino_import import openvino
from skyfan.engines.openvino_ir import Graph
from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.converted import EngineChoice, outputs_bytes
from skyfan.models.reference_outputs import CHECKED_SAMPLES, check_samples

# Short turns, and many of them where the engines are close: on a busy machine some then run undisturbed.
TRIAL_ROUNDS, CLEAR_ROUNDS, CLEAR_RATIO, TRIAL_S, TRIAL_BYTES = 9, 3, 1.5, 0.1, 2**26
MAX_NOISE_VALUES = 2**22
Predict = Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]


class NotConverted(Exception):
    """Why OpenVINO does not run the model."""


def chosen(config: bytes) -> dict[str, Any]:
    """The engine, the reason, the outputs and the measurements; the graph and reference outputs are left as files."""
    asked = Asked.model_validate_json(config)
    data = Path(SOURCE).read_bytes()
    source = program_source(data, asked.threads) if asked.kind == "program" else onnx_source(data, asked.threads)
    result: dict[str, Any] = {"engine": source.engine}
    try:
        return result | _converted(source, asked)
    except NotConverted as error:
        return result | {"reason": f"auto: {error}"}


def _converted(source: Source, asked: Asked) -> dict[str, Any]:
    if source.why_not is not None:
        raise NotConverted(source.why_not)
    noise = check_samples(source.examples, _noise_count(source))
    with np.load(SAMPLES, allow_pickle=False) as held:
        samples = [held[f"a{at}"] for at in range(len(held.files))]
    wanted = source.predict(noise)
    graph = _graph(source, asked)
    found: dict[str, Any] = {"outputs": [{"name": spec.name, "row_shape": spec.row_shape} for spec in source.outputs()]}
    deviation = _deviation(graph.predict, source.predict, noise, wanted, samples)
    found["deviation"] = deviation.to_dict()
    if deviation.relative > TOLERANCE:
        raise NotConverted(
            f"openvino deviates from {source.engine} by {deviation.relative:.1e} · max(1, |y|), "
            f"more than {TOLERANCE:.0e}"
        )
    reason = "asked for" if asked.engine == "openvino" else "auto: it converts, and was not timed here"
    if asked.timed:
        rates = _rates(graph.predict, source, samples if samples and len(samples[0]) else noise)
        ours, theirs = rates["openvino"], rates[source.engine]
        found["rates"] = rates
        if ours < theirs:
            slower = f"auto: openvino is slower here, {ours:.0f} against {theirs:.0f} samples/s"
            return {**found, "engine": source.engine, "reason": slower}
        reason = f"auto: {ours / theirs:.2g} times as fast as {source.engine} here"
    Path("model.npy").write_bytes(outputs_bytes(wanted))
    return {**found, "engine": "openvino", "reason": reason}


def _noise_count(source: Source) -> int:
    values = max(math.prod(size or 1 for size in taken.shape[1:]) for taken in source.examples)
    return max(2, min(CHECKED_SAMPLES, MAX_NOISE_VALUES // max(1, values)))


def _graph(source: Source, asked: Asked) -> Graph:
    """The converted model, saved and read again as ranks read it."""
    try:
        model = source.convert()
    except Exception as error:
        raise NotConverted(f"openvino does not convert it: {_said(error)}") from error
    if len(model.inputs) != len(source.examples) or len(model.outputs) != len(source.outputs()):
        raise NotConverted(
            f"its OpenVINO form has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not "
            f"{len(source.examples)} and {len(source.outputs())}"
        )
    # a converter may give the inputs another order, and more names than one
    named = {name: given for given in model.get_parameters() for name in given.output(0).get_names()}
    if not set(source.value_names) <= set(named):
        raise NotConverted("its OpenVINO form has other inputs")
    model = openvino.Model(model.get_results(), [named[name] for name in source.value_names], "model")
    openvino.save_model(model, "model.xml", compress_to_fp16=False)
    read = openvino.Core().read_model(Path("model.xml").read_bytes(), Path("model.bin").read_bytes())
    choice = EngineChoice(
        engine="openvino",
        reason="",
        source_uri="",
        source_digest="0" * 64,
        parameters=0,
        outputs=tuple(OutputSpec(spec.name, spec.row_shape) for spec in source.outputs()),
        micro_batch=asked.micro_batch,
    )
    return Graph(read, choice, asked.threads)


def _said(error: Exception) -> str:
    """What matters in the several lines of a converter: the operations that it has no rule for, or the first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(("-- ", "No conversion rule"))), None)
    return (told or (lines[0] if lines else type(error).__name__)).removeprefix("-- ")[:200]


def _deviation(
    predict: Predict, reference: Predict, noise: list[Any], wanted: NDArray[np.float32], samples: list[Any]
) -> Deviation:
    """On noise and on samples of the dataset."""
    try:
        found = predict(noise)
        if samples and len(samples[0]):
            found, wanted = np.concatenate([found, predict(samples)]), np.concatenate([wanted, reference(samples)])
    except ModelError as error:
        raise NotConverted(str(error)) from error
    if not np.isfinite(wanted).any():
        raise NotConverted("it gives no finite numbers on the samples on which engines are compared")
    return Deviation.between(found, wanted)


def _rates(predict: Predict, source: Source, samples: list[Any]) -> dict[str, float]:
    """Samples a second of both, in turns, on as many samples as a tenth of a second allows: the best of some rounds.

    Engines that differ clearly, or are slow, have few rounds.
    """
    start = time.perf_counter()
    source.predict(samples)
    count, spent_s = len(samples[0]), time.perf_counter() - start
    row_bytes = sum(values[:1].nbytes for values in samples)
    wanted = min(1024, TRIAL_BYTES // max(1, row_bytes), int(count * TRIAL_S / max(spent_s, 1e-3)))
    batch = [np.resize(values, (max(count, wanted), *values.shape[1:])) for values in samples]
    runs = {"openvino": predict, source.engine: source.predict}
    best = dict.fromkeys(runs, float("inf"))
    for done in range(TRIAL_ROUNDS):
        if done >= CLEAR_ROUNDS and (spent_s > TRIAL_S or max(best.values()) > CLEAR_RATIO * min(best.values())):
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run(batch)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: len(batch[0]) / spent for name, spent in best.items()}
