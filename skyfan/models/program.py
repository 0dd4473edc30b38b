"""Runs a `torch.export` program on the dataset's tensors."""

import io
import logging
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from skyfan.errors import ModelError
from skyfan.models._program_check import checked_archive
from skyfan.models.inputs import ModelInput


class ProgramModule(nn.Module):
    """A program as a module of tensors in, one [B, K] tensor out.

    Several outputs are laid side by side in their order. A program that was exported for one batch size
    is given batches of that size, the last one filled up by repeating its last sample.
    """

    def __init__(self, program: ExportedProgram, inputs: Sequence[ModelInput]) -> None:
        super().__init__()
        self.graph = program.module(check_guards=False)
        self._in_spec = program.call_spec.in_spec
        self.fixed_batch = next((i.shape[0] for i in inputs if i.shape), None)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors [B, …] in the order of the program's inputs → [B, K]."""
        if self.fixed_batch is None or tensors[0].shape[0] == self.fixed_batch:
            return self._run(tensors)
        pieces = zip(*(torch.split(tensor, self.fixed_batch) for tensor in tensors), strict=True)
        return torch.cat([self._run_filled(piece, self.fixed_batch) for piece in pieces])

    def _run_filled(self, tensors: tuple[Tensor, ...], batch: int) -> Tensor:
        count = tensors[0].shape[0]
        filled = [torch.cat((t, t[-1:].expand(batch - count, *t.shape[1:]))) for t in tensors]
        return self._run(filled)[:count]

    def _run(self, tensors: Sequence[Tensor]) -> Tensor:
        assert self._in_spec is not None
        args, kwargs = pytree.tree_unflatten(list(tensors), self._in_spec)
        outputs = [out for out in pytree.tree_leaves(self.graph(*args, **kwargs)) if isinstance(out, Tensor)]
        batch = tensors[0].shape[0]
        if not outputs or any(out.dim() == 0 or out.shape[0] != batch for out in outputs):
            shapes = [list(out.shape) for out in outputs]
            raise ModelError(f"the program put out shapes {shapes} for {batch} samples; each must be [samples, …].")
        columns = [out.reshape(batch, -1) for out in outputs]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def load_program(data: bytes, where: str) -> tuple[ProgramModule, tuple[ModelInput, ...]]:
    """The program in the bytes of a `.pt2` file, checked first (see `_program_check`), and its inputs."""
    archive = checked_archive(data, where)
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(archive))
        inputs = _inputs(program)
        module = ProgramModule(program, inputs)
    # torch raises whatever its deserialiser trips over (AssertionError, KeyError, SerializeError, …).
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{where} cannot be loaded by torch {torch.__version__}: {first_line}; export it again with this torch."
        ) from error
    finally:
        log.setLevel(level)
    if not inputs:
        raise ModelError(f"{where} takes no tensors.")
    return module, inputs


def _inputs(program: ExportedProgram) -> tuple[ModelInput, ...]:
    wanted = set(program.graph_signature.user_inputs)
    found = []
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in wanted and isinstance(value, Tensor):
            shape = tuple(size if type(size) is int else None for size in value.shape)
            found.append(ModelInput(node.name, shape, str(value.dtype).removeprefix("torch.")))
    if len(found) != len(wanted):
        raise ModelError("an input is no tensor.")
    return tuple(found)
