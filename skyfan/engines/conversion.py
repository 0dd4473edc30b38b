"""A model that is no AstroMAE is converted once a run, and its engine chosen: by trial, in a confined child process.

The child (`conversion_child`) is given what the checks of `skyfan.models` passed, and nothing else of the model is ever
executed. It can write in its own folder only; what it leaves there is data.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skyfan.engines.paying import Work, why_not_worth_it
from skyfan.errors import ModelError
from skyfan.job import RunOptions
from skyfan.models.converted import EngineChoice
from skyfan.models.inputs import ModelInput
from skyfan.models.loading import LoadedModel
from skyfan.sandbox import ChildDied, Limits, run_in_child

# A model's inputs of one micro-batch: more would leave the caches of a core, fewer cost calls.
MICRO_BATCH_BYTES, MAX_MICRO_BATCH = 2**20, 512
SOURCE, SAMPLES = "source", "samples.npz"
_MEMORY_PER_BYTE, _FILE_PER_BYTE = 16, 4
_DEADLINE_S = 600.0
_TOLD = ("engine", "reason", "outputs", "deviation", "rates")
_CHILD = "skyfan.engines.conversion_child:chosen"


class Asked(BaseModel):
    """What the child is to do. `timed`: the faster engine is taken, else OpenVINO wherever it gives the same."""

    model_config = ConfigDict(frozen=True)

    kind: str
    engine: str
    timed: bool
    threads: int
    micro_batch: int


@dataclass(frozen=True)
class Conversion:
    """The engine that was chosen, and the files that it is given, by suffix."""

    choice: EngineChoice
    files: dict[str, bytes]


def convert_model(
    model: LoadedModel,
    data: bytes,
    options: RunOptions,
    *,
    threads: int,
    samples: Sequence[NDArray[Any]] | None,
    timed: bool,
    work: Work | None = None,
) -> Conversion:
    """Converts a program or an ONNX model whose file has the bytes `data`, and chooses its engine.

    `samples` are some of the dataset's, on which the engines are compared beside noise. `timed`: the slower engine is
    not taken. `work`: a program is converted only where that pays, unless OpenVINO was asked for; None: always.
    Raises `ModelError` where OpenVINO was asked for and cannot be used.
    """
    own = "onnxruntime" if model.onnx else "torch"
    blank = EngineChoice(
        engine=own,
        reason="asked for",
        source_uri=model.uri,
        source_digest=model.digest,
        parameters=model.parameters,
        inputs=model.inputs,
        example_shapes=model.example_shapes,
        micro_batch=micro_batch_of(model),
        versions=_versions("openvino", own),
    )
    own_files = {"onnx": model.onnx.data} if model.onnx else {}
    why_not = _why_not(model, options)
    if why_not is None and options.engine == "auto" and work is not None:
        why_not = why_not_worth_it(model, work, samples, threads=threads)
    if why_not is not None:
        choice = blank.model_copy(update={"reason": why_not})
        return Conversion(choice, own_files)
    found, files = _in_child(model, data, options, samples, blank.micro_batch, threads=threads, timed=timed)
    if found["engine"] != "openvino":
        if options.engine == "openvino":
            raise ModelError(f"{model.uri} cannot be run by the openvino engine: {found['reason']}; use --engine auto.")
        files = own_files
    # nothing else that the child reports is taken
    told = {name: found[name] for name in _TOLD if name in found}
    whole: dict[str, Any] = {**blank.model_dump(by_alias=True), **told}
    return Conversion(EngineChoice.model_validate(whole), files)


def _why_not(model: LoadedModel, options: RunOptions) -> str | None:
    if options.engine in ("torch", "onnxruntime"):
        return "asked for"
    if model.program is not None and model.program.draws:
        return "auto: random numbers are torch's"
    if find_spec("openvino") is None:
        return "auto: openvino is not installed"
    return None


def _in_child(
    model: LoadedModel,
    data: bytes,
    options: RunOptions,
    samples: Sequence[NDArray[Any]] | None,
    micro_batch: int,
    *,
    threads: int,
    timed: bool,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    own = "onnxruntime" if model.onnx else "torch"
    asked = Asked(
        kind="onnx" if model.onnx else "program",
        engine=options.engine,
        timed=timed and options.engine == "auto",
        threads=threads,
        micro_batch=micro_batch,
    )
    limits = Limits(
        deadline_s=_DEADLINE_S,
        memory_bytes=Limits().memory_bytes + _MEMORY_PER_BYTE * len(data),
        file_bytes=Limits().file_bytes + _FILE_PER_BYTE * len(data),
    )
    with tempfile.TemporaryDirectory(prefix="skyfan-") as name:
        folder = Path(name)
        (folder / SOURCE).write_bytes(model.onnx.data if model.onnx else data)
        _write_samples(folder / SAMPLES, model.inputs, samples)
        try:
            found = run_in_child(_CHILD, asked.model_dump_json().encode(), limits, folder=folder)
        except ChildDied as died:
            return {"engine": own, "reason": f"auto: its conversion in a child process {died}"}, {}
        # links are not followed: the child could have made one
        left = [path for path in folder.glob("model.*") if not path.is_symlink()]
        return found, {path.suffix[1:]: path.read_bytes() for path in left}


def _write_samples(path: Path, inputs: Sequence[ModelInput], samples: Sequence[NDArray[Any]] | None) -> None:
    held = zip(inputs, samples or (), strict=False)
    arrays = {f"a{at}": values.astype(taken.numpy_dtype) for at, (taken, values) in enumerate(held)}
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def micro_batch_of(model: LoadedModel) -> int:
    """The one batch size of the model, or a power of two whose inputs stay in the caches of a core."""
    if model.inputs[0].shape[0] is not None:
        return model.inputs[0].shape[0]
    row_bytes = 4 * sum(int(np.prod(shape[1:], dtype=np.int64)) for shape in model.example_shapes)
    fitting = max(1, min(MAX_MICRO_BATCH, MICRO_BATCH_BYTES // max(1, row_bytes)))
    return 1 << (fitting.bit_length() - 1)


def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
