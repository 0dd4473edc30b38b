"""Runs a checked program on the dataset's tensors."""

import io
import logging
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from skyfan.errors import ModelError
from skyfan.models.programs.checked import CheckedProgram
from skyfan.sandbox import ConfinedThread


class ProgramModule(nn.Module):
    """A program as a module of tensors in, one [B, K] tensor out, run on a thread that can write no file.

    Several outputs are laid side by side in their order. A program that was exported for one batch size is given
    batches of that size, the last one filled up by repeating its last sample. With `random_seed` torch's generator is
    seeded with it before every call, so that a batch gets the same predictions each time.
    """

    def __init__(self, checked: CheckedProgram, random_seed: int | None = None) -> None:
        super().__init__()
        self.graph: Callable[..., Sequence[object]] = load_exported(checked).module(check_guards=False)
        self.fixed_batch = checked.fixed_batch
        self._writes_inputs = checked.writes_inputs
        self._seed = random_seed
        self._thread = ConfinedThread()

    def forward(self, *tensors: Tensor) -> Tensor:
        """Tensors [B, …] in the order of the program's inputs → [B, K]; raises `ModelError` where it fails."""
        threads = torch.get_num_threads()  # a setting of the calling thread
        return self._thread.run(lambda: self._forward(tensors, threads))

    def _forward(self, tensors: Sequence[Tensor], threads: int) -> Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if self._seed is not None:
            torch.manual_seed(self._seed)
        with torch.inference_mode():
            if self.fixed_batch is None or tensors[0].shape[0] == self.fixed_batch:
                return self._run(tensors)
            pieces = zip(*(torch.split(tensor, self.fixed_batch) for tensor in tensors), strict=True)
            return torch.cat([self._run_filled(piece, self.fixed_batch) for piece in pieces])

    def _run_filled(self, tensors: tuple[Tensor, ...], batch: int) -> Tensor:
        count = tensors[0].shape[0]
        filled = [torch.cat((t, t[-1:].expand(batch - count, *t.shape[1:]))) for t in tensors]
        return self._run(filled)[:count]

    def _run(self, tensors: Sequence[Tensor]) -> Tensor:
        taken = [tensor.clone() for tensor in tensors] if self._writes_inputs else tensors
        try:
            given = self.graph(*taken)
        except Exception as error:  # operators raise RuntimeError, IndexError, ZeroDivisionError, …
            shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
            raise ModelError(f"the program failed on tensors of shape {shapes}: {_first_line(error)}") from error
        outputs = [output for output in given if isinstance(output, Tensor)]
        batch = tensors[0].shape[0]
        if not outputs or any(output.dim() == 0 or output.shape[0] != batch for output in outputs):
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise ModelError(f"the program put out shapes {shapes} for {batch} samples; each must be [samples, …].")
        columns = [output.reshape(batch, -1) for output in outputs]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def load_exported(checked: CheckedProgram) -> ExportedProgram:
    """The program as torch has it; raises `ModelError` where torch cannot load what was checked."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(io.BytesIO(checked.archive))
    # torch raises whatever its deserialiser trips over (AssertionError, KeyError, SerializeError, …).
    except Exception as error:
        raise ModelError(
            f"the program cannot be loaded by torch {torch.__version__}: {_first_line(error)}; export it again with "
            "this torch."
        ) from error
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
