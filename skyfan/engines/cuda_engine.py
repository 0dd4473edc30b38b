"""torch on a GPU: two pinned buffers, so that one piece is copied to the device while the other is computed.

A batch is cut into pieces. While the device computes a piece, the processor puts the next one into pinned memory
and a stream of its own moves it over; nothing waits but for a buffer that is still in use.

**Never measured**: no machine with a GPU was at hand. The tests run it on the CPU, where streams and pinned memory
do not exist and everything else is the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from skyfan.engines.base import Engine, EngineInfo
from skyfan.engines.check import Deviation
from skyfan.engines.torch_engine import as_tensor
from skyfan.errors import ModelError
from skyfan.models.inputs import ModelInput
from skyfan.models.loading import LoadedModel

# At least two pieces of the default batch of 512, or there is nothing to overlap.
PIECE_SAMPLES = 256
CUDA = "cuda"
PRECISIONS = ("float32", "tf32", "bf16")


@dataclass
class _Slot:
    """Pinned memory, its counterpart on the device, and the answers' way back."""

    pinned: list[torch.Tensor]
    on_device: list[torch.Tensor]
    copied: "torch.cuda.Event | None" = None
    done: "torch.cuda.Event | None" = None
    answers: torch.Tensor | None = None


@dataclass
class _Lanes:
    """The device's two streams; on a device without streams everything happens in order."""

    device: torch.device
    copies: "torch.cuda.Stream | None" = field(init=False)

    def __post_init__(self) -> None:
        self.copies = torch.cuda.Stream(self.device) if self.device.type == CUDA else None  # type: ignore[no-untyped-call]

    def slot(self, inputs: Sequence[ModelInput], shapes: Sequence[tuple[int, ...]]) -> _Slot:
        """Memory for a piece of these shapes [PIECE_SAMPLES, …]."""
        kinds = [(shape, getattr(torch, wanted.dtype)) for wanted, shape in zip(inputs, shapes, strict=True)]
        pinned = [torch.empty(shape, dtype=kind, pin_memory=self.copies is not None) for shape, kind in kinds]
        return _Slot(pinned, [torch.empty(shape, dtype=kind, device=self.device) for shape, kind in kinds])

    def upload(self, slot: _Slot, count: int) -> None:
        """Starts the copy of a slot's first `count` samples; work that is enqueued later waits for it."""
        if self.copies is None:
            for source, target in zip(slot.pinned, slot.on_device, strict=True):
                target[:count].copy_(source[:count])
            return
        with torch.cuda.stream(self.copies):
            for source, target in zip(slot.pinned, slot.on_device, strict=True):
                target[:count].copy_(source[:count], non_blocking=True)
            slot.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            slot.copied.record(self.copies)
        torch.cuda.current_stream(self.device).wait_event(slot.copied)

    def download(self, slot: _Slot, outputs: torch.Tensor) -> None:
        """Starts the copy of the answers."""
        pinned = torch.empty(outputs.shape, dtype=torch.float32, pin_memory=self.copies is not None)
        slot.answers = pinned.copy_(outputs, non_blocking=self.copies is not None)
        if self.copies is not None:
            slot.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            slot.done.record(torch.cuda.current_stream(self.device))

    @staticmethod
    def collect(slot: _Slot) -> NDArray[np.float32] | None:
        """The answers of the piece that this slot held, when they are there; None if it held none."""
        if slot.answers is None:
            return None
        if slot.done is not None:
            slot.done.synchronize()
        found: NDArray[np.float32] = slot.answers.numpy()
        slot.answers = None
        return found


class CudaEngine(Engine):
    """Runs a loaded model on its device. `precision`: float32 (no TF32), tf32 or bf16 (autocast).

    `samples` are inputs [B, …] on which the deviation of a reduced precision from float32 is measured.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        precision: str = "float32",
        reason: str,
        samples: Sequence[NDArray[np.generic]] | None = None,
    ) -> None:
        self._model = model
        self._lanes = _Lanes(torch.device(model.device))
        self._slots: list[_Slot] = []
        self.z_column = 0 if model.config is not None else None
        self._precision = "float32"
        deviation = None
        if precision != "float32" and samples is not None:
            exact = self.predict(samples)
            self._precision = precision
            deviation = Deviation.between(self.predict(samples), exact).to_dict()
        self._precision = precision
        self.info = EngineInfo(
            name="torch",
            version=torch.__version__,
            reason=reason,
            precision=precision,
            device=_device_name(self._lanes.device),
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            deviation=deviation,
        )

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """By name where all match, else in order."""
        return self._model.bind(tensor_names)

    def predict(self, inputs: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Outputs [B, width]."""
        self._model.call.check_shapes(inputs)
        if not self._slots:
            shapes = [(PIECE_SAMPLES, *values.shape[1:]) for values in inputs]
            self._slots = [self._lanes.slot(self._model.inputs, shapes) for _ in range(2)]
        try:
            with torch.inference_mode(), _matrix_products(self._precision), self._autocast():
                return np.concatenate(list(self._pieces(inputs)))
        except RuntimeError as error:  # out of memory is one, too
            raise ModelError(f"the model failed on {self._model.device}: {str(error).splitlines()[0]}") from error
        finally:
            # After a failure, what a slot still holds is no answer to the next call.
            for slot in self._slots:
                slot.answers = None

    def _pieces(self, inputs: Sequence[NDArray[np.generic]]) -> Iterator[NDArray[np.float32]]:
        """Answers piece by piece, in order: those of a slot are taken when the slot is needed again."""
        used: list[_Slot] = []
        for number, start in enumerate(range(0, len(inputs[0]), PIECE_SAMPLES)):
            slot = self._slots[number % 2]
            if (answers := self._lanes.collect(slot)) is not None:
                yield answers
            count = min(PIECE_SAMPLES, len(inputs[0]) - start)
            for values, pinned in zip(inputs, slot.pinned, strict=True):
                pinned[:count].copy_(as_tensor(values[start : start + count], pinned.dtype))
            self._lanes.upload(slot, count)
            outputs = self._model.module(*(tensor[:count] for tensor in slot.on_device))
            self._lanes.download(slot, outputs.reshape(count, -1).float())
            used = [*used[-1:], slot]
        for slot in used:
            if (answers := self._lanes.collect(slot)) is not None:
                yield answers

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision != "bf16":
            return nullcontext()
        return torch.autocast(self._lanes.device.type, dtype=torch.bfloat16)


@contextmanager
def _matrix_products(precision: str) -> Iterator[None]:
    """TF32 in float32 products only where it was asked for; PyTorch's switch is of the whole process."""
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == CUDA else str(device)
