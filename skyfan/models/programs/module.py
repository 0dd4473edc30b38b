"""Runs a checked program on the dataset's tensors, call by call.

torch's own loader is not needed for that: the calls are made here, in the order of the graph, with values by name.
Besides safety that saves the seconds that `torch.export.load` takes for symbolic shapes.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skyfan.errors import ModelError
from skyfan.layout import OutputSpec
from skyfan.models.programs.checked import CheckedProgram
from skyfan.models.programs.graph import TENSORS, Argument, Name, Node
from skyfan.models.programs.operators import SIZE_FUNCTIONS, aten_operator
from skyfan.models.programs.reading import DTYPES
from skyfan.models.programs.tensors import StoredTensor
from skyfan.plain_text import first_line
from skyfan.sandbox import ConfinedThread
from skyfan.units import counted

_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
_MAX_SHOWN = 300


class ProgramModule(nn.Module):
    """A program as a module of tensors in, one [B, K] tensor out, run on a thread that can write no file.

    Several outputs are laid side by side in their order; `outputs` describes those of the last call. A program that was
    exported for one batch size is given batches of that size, the last one filled up by repeating its last sample. One
    that draws random numbers gets them from torch's generator, which is seeded with `random_seed` for every call, so
    that a batch gets the same predictions each time; the caller's own random numbers go on as if there had been none.
    """

    def __init__(self, checked: CheckedProgram, random_seed: int | None = None) -> None:
        super().__init__()
        self.fixed_batch = checked.fixed_batch
        bases = {
            entry: torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for entry, data in checked.contents.items()
        }
        for weight in checked.program.weights:
            values = _laid_over(bases[checked.tensors[weight.value].entry], checked.tensors[weight.value])
            if weight.trained:
                self.register_parameter(weight.value, nn.Parameter(values, requires_grad=False))
            else:
                self.register_buffer(weight.value, values)
        self.outputs: tuple[OutputSpec, ...] = ()
        self._checked, self._seed, self._thread = checked, random_seed, ConfinedThread()
        self.draws = checked.draws
        self._calls = [(_function(node.target), node) for node in checked.program.graph.nodes]
        self._last_uses = _last_uses(checked)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors [B, …] in the order of the program's inputs → [B, K]; raises `ModelError` where it fails."""
        # Settings of the calling thread, as is autocast.
        threads, kind = torch.get_num_threads(), tensors[0].device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

        def predicted() -> Tensor:
            with torch.autocast(kind, dtype=half, enabled=half is not None):
                return self._predict(tensors, threads)

        return self._thread.run(predicted)

    @property
    def targets(self) -> list[str]:
        """The full name of every call, in order."""
        return [node.target for _, node in self._calls]

    def count_flop(self, *tensors: Tensor) -> int:
        """Floating-point operations of one call with these tensors, as torch counts matrix products and the like."""
        from torch.utils.flop_counter import FlopCounterMode

        def counted() -> int:
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                self._columns(tensors)
            return int(counter.get_total_flops())

        return self._thread.run(counted)

    def _predict(self, tensors: Sequence[Tensor], threads: int) -> Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode(), self._seeded(tensors[0].device):
            if self.fixed_batch is None or tensors[0].shape[0] == self.fixed_batch:
                return self._columns(tensors)
            pieces = zip(*(torch.split(tensor, self.fixed_batch) for tensor in tensors), strict=True)
            return torch.cat([self._filled(piece, self.fixed_batch) for piece in pieces])

    @contextmanager
    def _seeded(self, device: torch.device) -> Iterator[None]:
        if self._seed is None or not self.draws:
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self._seed)
            yield

    def _filled(self, tensors: tuple[Tensor, ...], batch: int) -> Tensor:
        count = tensors[0].shape[0]
        filled = [torch.cat((t, t[-1:].expand(batch - count, *t.shape[1:]))) for t in tensors]
        return self._columns(filled)[:count]

    def _columns(self, tensors: Sequence[Tensor]) -> Tensor:
        taken = [tensor.clone() for tensor in tensors] if self._checked.writes_inputs else tensors
        try:
            outputs = self._run(taken)
        except Exception as error:  # operators raise RuntimeError, IndexError, ZeroDivisionError, …
            shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
            reason = first_line(error)[:_MAX_SHOWN]
            raise ModelError(f"the program failed on tensors of shape {shapes}: {reason}") from error
        batch = tensors[0].shape[0]
        if any(output.dim() == 0 or output.shape[0] != batch for output in outputs):
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise ModelError(
                f"the program put out shapes {shapes} for {counted(batch, 'sample')}; each must be [samples, …]."
            )
        named = zip(self._checked.output_names, outputs, strict=True)
        self.outputs = tuple(OutputSpec(name, tuple(output.shape[1:])) for name, output in named)
        columns = [output.reshape(batch, -1) for output in outputs]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)

    def _run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        program = self._checked.program
        values: dict[str, Any] = {weight.value: getattr(self, weight.value) for weight in program.weights}
        values.update(zip(program.inputs.values(), tensors, strict=True))
        device = tensors[0].device
        for (function, node), finished in zip(self._calls, self._last_uses, strict=True):
            given = [(item.name, _resolved(item.argument, values, device)) for item in node.inputs]
            is_size = node.target in SIZE_FUNCTIONS
            result = function(*(value for _, value in given)) if is_size else function(**dict(given))
            results = (result,) if len(node.outputs) == 1 else result
            for output, value in zip(node.outputs, results, strict=True):
                held = value if output.tag == TENSORS else (value,)
                values.update(zip(output.names(), held, strict=True))
            for name in finished:
                del values[name]
        found = [values[name] for output in program.outputs for name in output.names()]
        return [value for value in found if isinstance(value, Tensor)]


def _laid_over(base: Tensor, stored: StoredTensor) -> Tensor:
    """The tensor over its bytes, which `tensors` checked to hold it; torch checks it again."""
    meta = stored.meta
    return base.view(getattr(torch, DTYPES[meta.dtype])).as_strided(meta.sizes, meta.strides, meta.offset)  # type: ignore[arg-type]


def _function(target: str) -> Callable[..., Any]:
    """What an allowed target names; `checking` has held the target against the lists."""
    if target in SIZE_FUNCTIONS:
        module, _, name = target.rpartition(".")
        found: Callable[..., Any] = getattr(operator if module == "_operator" else torch, name)
        return found
    called: Callable[..., Any] = aten_operator(target)
    return called


def _last_uses(checked: CheckedProgram) -> list[list[str]]:
    """Which values are not needed any more after each call, so that their memory is free."""
    kept = {name for output in checked.program.outputs for name in output.names()}
    finished: list[list[str]] = []
    for node in reversed(checked.program.graph.nodes):
        names = _names(node) - kept
        finished.append(sorted(names))
        kept |= names
    return finished[::-1]


def _names(node: Node) -> set[str]:
    given = {name for item in node.inputs for name in item.argument.names()}
    return given | {name for output in node.outputs for name in output.names()}


def _resolved(argument: Argument, values: dict[str, Any], device: torch.device) -> Any:
    """The argument's value in torch's terms."""
    value = argument.value
    if argument.tag == "as_scalar_type":
        return getattr(torch, DTYPES[value])
    if argument.tag == "as_memory_format":
        return _FORMATS[value]
    if argument.tag in ("as_device", "as_layout", "as_none"):
        return {"as_device": device, "as_layout": torch.strided, "as_none": None}[argument.tag]
    if isinstance(value, tuple):
        return [values[item.text] if isinstance(item, Name) else item for item in value]
    return values[value.text] if isinstance(value, Name) else value
