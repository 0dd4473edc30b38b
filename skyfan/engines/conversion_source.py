"""The two kinds of models that are converted: how each predicts by its own engine, and how OpenVINO is given it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.openvino_import import openvino
from skyfan.layout import OutputSpec
from skyfan.models.inputs import ModelInput, examples


@dataclass(frozen=True)
class Source:
    """A checked model. `examples`: its inputs in the sizes of its export; `value_names`: what its graph calls them.

    `why_not`: a reason not to convert it; `outputs`: those of the last prediction.
    """

    engine: str
    examples: Sequence[ModelInput]
    value_names: Sequence[str]
    predict: Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]
    outputs: Callable[[], Sequence[OutputSpec]]
    convert: Callable[[], openvino.Model]
    why_not: str | None = None


def program_source(data: bytes, threads: int) -> Source:
    """A `.pt2` program, checked again here: what torch and OpenVINO are given is written from what the check passed."""
    import torch

    from skyfan.models.programs.checked import checked_program
    from skyfan.models.programs.exported import exported_program
    from skyfan.models.programs.lookups import unbounded_lookup
    from skyfan.models.programs.module import ProgramModule

    torch.set_num_threads(threads)
    checked = checked_program(data, "the program")
    module = ProgramModule(checked)
    dtypes = [getattr(torch, taken.dtype) for taken in checked.inputs]

    def predict(rows: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        tensors = [torch.from_numpy(values).to(dtype) for values, dtype in zip(rows, dtypes, strict=True)]
        found: NDArray[np.float32] = module(*tensors).float().numpy()
        return found

    why_not = _lookup(unbounded_lookup(checked.program), "torch")
    if why_not is None and any(taken.dtype == "bfloat16" for taken in checked.inputs):
        why_not = "it takes bfloat16, which numpy cannot pass to openvino"
    return Source(
        engine="torch",
        examples=examples(checked.inputs, checked.example_shapes),
        value_names=list(checked.program.inputs.values()),
        predict=predict,
        outputs=lambda: module.outputs,
        convert=lambda: openvino.convert_model(exported_program(checked)),
        why_not=why_not,
    )


def onnx_source(data: bytes, threads: int) -> Source:
    """An ONNX file that was written from what the check passed."""
    from skyfan.models.onnx.reading import read_onnx
    from skyfan.models.onnx.session import OnnxSession

    model = read_onnx(data, "the model")
    session = OnnxSession(model.data, model.inputs, threads=threads)
    return Source(
        engine="onnxruntime",
        examples=examples(model.inputs, model.example_shapes),
        value_names=[taken.name for taken in model.inputs],
        predict=session.predict,
        outputs=lambda: session.outputs,
        convert=lambda: openvino.Core().read_model(model.data),
        why_not=_lookup(model.unbounded_lookup, "onnxruntime"),
    )


def _lookup(operator: str | None, engine: str) -> str | None:
    if operator is None:
        return None
    return f"{operator} looks up the dataset's own numbers: {engine} refuses one beyond the table, openvino does not"
