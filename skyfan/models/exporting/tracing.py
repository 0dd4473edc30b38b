"""In the child: makes the user's module, exports it with a free batch dimension, and compares the two."""

import importlib
import inspect
import io
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram

from skyfan.dtypes import STRING
from skyfan.errors import BadInput, DatasetError, ModelError, SkyfanError
from skyfan.formats.dataset import open_dataset
from skyfan.models.exporting.naming import NamedModule, named_module
from skyfan.models.exporting.request import CHECKED_BATCHES, ExportReport, ExportRequest
from skyfan.models.exporting.weights import LoadedWeights, load_weights
from skyfan.models.programs.checked import checked_program
from skyfan.models.programs.module import ProgramModule
from skyfan.models.programs.reference import REFERENCE_FILE, reference_json
from skyfan.models.programs.trial import example_rows, try_program
from skyfan.plain_text import first_line

# |exported − eager| ≤ this · max(1, |eager|).
TOLERANCE = 1e-5
MAX_BATCH = 65_536
_TRACED_BATCH = 7
_MAX_SHOWN = 300


def export(request: ExportRequest) -> tuple[bytes, ExportReport]:
    """The program's bytes, and what is in it; see `launching.export_program`."""
    module = _made(request)
    loaded = load_weights(module, request.weights) if request.weights else LoadedWeights("", ())
    module = module.float().eval().requires_grad_(requires_grad=False)
    columns, keywords = _columns(module, request)
    rows = _example_rows(request.example, columns)
    inputs = [re.sub(r"\W|^(?=\d)", "_", name) for name in columns]
    named = named_module(module, inputs, keywords, request.output_names).eval()
    with _of_the_users(f"{request.factory} failed on {_shapes(columns, rows)}"), torch.inference_mode():
        outputs = named(*(values[:_TRACED_BATCH] for values in rows))
    _check_rows(outputs, _TRACED_BATCH)
    traced, where = _traced(named, rows, request.factory), f"the program of {request.factory}"
    checked = checked_program(_file(traced, {}), where)
    program = ProgramModule(checked)
    deviations = {batch: _deviation(named, program, rows, batch) for batch in CHECKED_BATCHES}
    worst = max(deviations.values())
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{where} gives other outputs than the module: by {worst:.1e} · max(1, |y|), more than {TOLERANCE:.0e}; "
            "does forward() depend on the number of samples, or draw random numbers?"
        )
    reference = _eager(named, [torch.from_numpy(values) for values in example_rows(checked)])
    data = _file(traced, {REFERENCE_FILE: reference_json(reference.numpy())})
    try_program(data, where)
    return data, ExportReport(
        inputs={name: tuple(values.shape[1:]) for name, values in zip(inputs, rows, strict=True)},
        outputs={name: tuple(value.shape[1:]) for name, value in outputs.items()},
        parameters=sum(values.numel() for values in module.parameters()),
        prefix=loaded.prefix,
        left_out=loaded.left_out,
        deviations=deviations,
    )


def _made(request: ExportRequest) -> nn.Module:
    """What the user's class or function gives; a module that is there already is taken as it is."""
    name, _, path = request.factory.partition(":")
    with _of_the_users(f"{name} cannot be imported (modules are looked for in {Path.cwd()} first)"):
        found: Any = importlib.import_module(name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise BadInput(f"{name} has no {path}; name a class or function of it, as {name}:CLASS.")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    with _of_the_users(f"{request.factory} cannot be made (its arguments are given as --arguments JSON)"):
        made = found(**request.arguments)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{request.factory} gives a {type(made).__name__}, not a torch.nn.Module.")
    return made


def _columns(module: nn.Module, request: ExportRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of the example in the order of the call, and the parameters that they are given as.

    Those that the user names; else by name, where the dataset has a column for every parameter that needs one; else
    the first ones in order. No parameters: the call is by position.
    """
    held = open_dataset(request.example).files[0]
    numeric = [spec.name for spec in held.tensors if spec.dtype != STRING]
    accepted = inspect.signature(module.forward).parameters.values()
    plain = [one for one in accepted if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    required = [one.name for one in plain if one.default is one.empty]
    if request.input_names:
        for name in request.input_names:
            held.tensor(name)
        return request.input_names, ()
    by_name = tuple(one.name for one in plain if one.name in numeric and one.kind == one.POSITIONAL_OR_KEYWORD)
    if by_name and set(required) <= set(by_name):
        return by_name, by_name
    count = max(1, len(required))
    if count > len(numeric):
        raise DatasetError(
            f"{request.factory} takes {', '.join(required)}, {request.example} holds {', '.join(numeric)}; name the "
            "columns that it takes, in its order, with --input-names."
        )
    return tuple(numeric[:count]), ()


def _example_rows(example: str, columns: Sequence[str]) -> list[Tensor]:
    """As many samples [B, …] as the largest batch that is compared has, repeated where there are fewer."""
    dataset = open_dataset(example)
    most = max(CHECKED_BATCHES)
    if not dataset.samples:
        raise DatasetError(f"{example} holds no samples; name another --example.")
    read = dataset.read(0, min(most, dataset.samples), columns)
    at = np.arange(most) % min(most, dataset.samples)
    found = []
    for name in columns:
        values = read[name][at]
        if values.dtype.kind in "fV":  # as all of the module's weights
            values = values.astype(np.float32)
        if values.dtype.kind not in "fiub":
            raise DatasetError(f"the column {name} of {example} holds {values.dtype}, which no model takes.")
        found.append(torch.from_numpy(np.ascontiguousarray(values)))
    return found


def _traced(module: NamedModule, rows: Sequence[Tensor], factory: str) -> ExportedProgram:
    """The exported program; dimension 0 of every input is free."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    taken = tuple(values[:_TRACED_BATCH].clone() for values in rows)
    logging.getLogger("torch").setLevel(logging.ERROR)
    with _of_the_users(f"{factory} cannot be exported"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, taken, dynamic_shapes=tuple({0: batch} for _ in taken))
        except UserError as error:
            if "Constraints violated" not in str(error):
                raise
            raise ModelError(
                f"forward() of {factory} takes no other number of samples than the {_TRACED_BATCH} that it was tried "
                "with; let shapes in it follow the input, as x.shape[0] or -1 does."
            ) from error


def _file(program: ExportedProgram, extra: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()


def _eager(module: NamedModule, rows: Sequence[Tensor]) -> Tensor:
    """The module's outputs side by side [B, columns], as a program gives them."""
    with torch.inference_mode():
        return torch.cat([value.reshape(len(rows[0]), -1).double() for value in module(*rows).values()], dim=1)


def _deviation(module: NamedModule, program: Callable[..., Tensor], rows: Sequence[Tensor], batch: int) -> float:
    """Largest |exported − eager| / max(1, |eager|) over `batch` samples; infinite where only one of them is finite."""
    taken = [values[:batch] for values in rows]
    expected, found = _eager(module, taken), program(*taken).double()
    difference = ((found - expected).abs() / expected.abs().clamp(min=1)).where(found != expected, 0.0)
    both_nan = found.isnan() & expected.isnan()
    return float(difference.where(~both_nan, 0.0).nan_to_num(nan=float("inf")).max())


def _check_rows(outputs: dict[str, Tensor], batch: int) -> None:
    if not outputs:
        raise ModelError("forward() returns no tensor; return a tensor, or tuples, lists or dicts of tensors.")
    for name, value in outputs.items():
        if value.dim() == 0 or value.shape[0] != batch:
            raise ModelError(
                f"the output {name} has the shape {list(value.shape)} for {batch} samples; each must be [samples, …]."
            )


def _shapes(columns: Sequence[str], rows: Sequence[Tensor]) -> str:
    pairs = zip(columns, rows, strict=True)
    return ", ".join(f"{name} {str(values.dtype).removeprefix('torch.')} [B, {str(list(values.shape[1:]))[1:-1]}]"
                     for name, values in pairs)  # fmt: skip


@contextmanager
def _of_the_users(what: str) -> Iterator[None]:
    """Turns whatever the user's code raises into one sentence with file and line; `what` failed is how it begins."""
    try:
        yield
    except SkyfanError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not re.search("site-packages|skyfan|^<", frame.filename)]
        at = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
        told = first_line(error)[:_MAX_SHOWN].rstrip(".")
        raise ModelError(f"{what}: {type(error).__name__}: {told}{at}.") from error
