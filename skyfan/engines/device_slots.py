"""Pieces of samples on a device: filled from batches of any size, computed whole, their outputs fetched in order.

Three streams work at once: one moves samples to the device, one computes, one moves outputs back. The processor waits
for a copy before it gives a batch's memory back, and for outputs only when as many pieces as there are slots are on
their way. On a device without streams (the CPU, in tests) everything happens in order and all else is the same.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skyfan.engines.torch_engine import as_tensor

CUDA = "cuda"
# One that is filled, one that is computed, one whose outputs are on their way.
SLOTS = 3


@dataclass
class Slot:
    """Memory on the device for one piece: of every input a tensor [capacity, …]; the first `filled` rows hold samples.

    `staging` is pinned memory of the same shapes, made for those inputs whose batches are not pinned themselves.
    """

    on_device: list[torch.Tensor]
    staging: dict[int, torch.Tensor] = field(default_factory=dict)
    filled: int = 0
    outputs: torch.Tensor | None = None
    fetched: torch.Tensor | None = None
    done: Any = None

    @property
    def capacity(self) -> int:
        """Samples that fit."""
        return len(self.on_device[0])


class Streams:
    """Moves samples into slots and outputs back, beside the device's current stream, which computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.has_streams = device.type == CUDA
        self._up = torch.cuda.Stream(device) if self.has_streams else None  # type: ignore[no-untyped-call]
        self._down = torch.cuda.Stream(device) if self.has_streams else None  # type: ignore[no-untyped-call]

    def slot(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]) -> Slot:
        """A slot of these shapes [capacity, …]."""
        kinds = zip(shapes, dtypes, strict=True)
        return Slot([torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype in kinds])

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the processor that the device reads by itself."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self.has_streams)

    def append(self, slot: Slot, inputs: Sequence[NDArray[np.generic]]) -> None:
        """Starts the copy of these samples [n, …] to the rows behind those that are filled."""
        rows = slice(slot.filled, slot.filled + len(inputs[0]))
        with self._on(self._up):
            for number, (values, target) in enumerate(zip(inputs, slot.on_device, strict=True)):
                source = as_tensor(values, target.dtype)
                if self.has_streams and not source.is_pinned():
                    if number not in slot.staging:
                        slot.staging[number] = self.pinned(target.shape, target.dtype)
                    source = slot.staging[number][rows].copy_(source)
                target[rows].copy_(source, non_blocking=True)
        slot.filled = rows.stop

    def wait_for_copies(self) -> None:
        """Until all samples that were appended are on the device: their memory may then be filled anew."""
        if self._up is not None:
            self._up.synchronize()

    def begin(self) -> None:
        """What is computed from here on waits for the copies so far."""
        if self._up is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._up)

    def fetch(self, slot: Slot) -> None:
        """Starts the copy of the slot's outputs to the processor."""
        outputs = slot.outputs
        assert outputs is not None
        if slot.fetched is None or slot.fetched.shape[1:] != outputs.shape[1:]:
            slot.fetched = self.pinned((slot.capacity, *outputs.shape[1:]), torch.float32)
        if self._down is not None:
            self._down.wait_stream(torch.cuda.current_stream(self.device))
        with self._on(self._down):
            slot.fetched[: len(outputs)].copy_(outputs, non_blocking=True)
            slot.done = self._down.record_event() if self._down is not None else None

    @staticmethod
    def collect(slot: Slot) -> NDArray[np.float32]:
        """The slot's outputs [filled, width], when they are there; the slot is empty then."""
        assert slot.fetched is not None
        if slot.done is not None:
            slot.done.synchronize()
        found: NDArray[np.float32] = slot.fetched[: slot.filled].numpy().copy()
        slot.filled, slot.outputs = 0, None
        return found

    def abandon(self) -> None:
        """Waits until the device reads and writes no slot any more; after an error, too."""
        if self.has_streams:
            torch.cuda.synchronize(self.device)

    @staticmethod
    def _on(stream: Any) -> AbstractContextManager[Any]:
        return nullcontext() if stream is None else torch.cuda.stream(stream)
