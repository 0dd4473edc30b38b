"""torch on a GPU: batches of any size go through it in pieces sized by its memory.

Which samples share a piece depends on the order of the samples alone, not on the batches or blocks that they come in.
A piece is filled up to one of few shapes, as a product's rounding can depend on its shape. AstroMAE is run in its
matrix form (`torch_graph`), checked against reference outputs; exported programs as they are.

What was measured on a card is in benchmarks/NOTES.md, 9. The tests run it on the CPU, where streams and pinned memory
do not exist and everything else is the same.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray

from skyfan.engines.base import Engine, EngineInfo
from skyfan.engines.check import Deviation, reference_outputs, require_equal
from skyfan.engines.compile_cache import use_inductor_cache
from skyfan.engines.device_slots import CUDA, SLOTS, Slot, Streams
from skyfan.engines.torch_graph import MatrixAstroMAE
from skyfan.errors import DeviceLost, ModelError
from skyfan.layout import OutputSpec
from skyfan.models.astromae_matrix import MatrixForm, matrix_form
from skyfan.models.loading import LoadedModel
from skyfan.models.mixture import head_outputs
from skyfan.plain_text import first_line

Array = NDArray[np.generic]
Floats = NDArray[np.float32]
PRECISIONS = ("float32", "tf32", "fp16", "bf16")
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What `auto` tries, fastest first; bf16 is no faster on an H100 and ten times further off (benchmarks/NOTES.md).
AUTO_PRECISIONS = ("fp16", "tf32")
# Measured on one H100: 8,192 samples run 10% faster than 2,048; the model's own form gained 4% from 4,096 to 16,384.
MIN_PIECE, MAX_PIECE = 2048, 8192
# Of a card's memory, what the values of one piece may take; the rest is slots, weights, and other processes.
MEMORY_SHARE = 0.4
TRIAL_SAMPLES = 256
# A piece that is not full is filled up to a multiple of this; a compiled model knows one shape only.
SHAPE_STEP = 256


class CudaEngine(Engine):
    """Runs a loaded model on its device, in the first of `precisions` that is accurate enough.

    `float32` has no TF32; `tf32` rounds the inputs of products; `fp16` and `bf16` compute AstroMAE's transformer
    blocks, or all of an exported program, in these types (autocast) and the rest in TF32. Whatever is not float32 is
    compared with float32 on `samples` (inputs [B, …]); where its deviation, 99.9% of them, is beyond `max_deviation`,
    or where there are no samples and a bound is given, the next precision is taken, at last float32. Raises
    `DeviatesFromTorch` where AstroMAE's matrix form is not what the reference outputs say.
    """

    # It takes a piece's blocks at once; with three it waited for a fifth of the time (benchmarks/NOTES.md).
    read_buffers = 6

    def __init__(
        self,
        model: LoadedModel,
        *,
        precisions: Sequence[str] = ("float32",),
        max_deviation: float | None = None,
        reason: str,
        samples: Sequence[Array] | None = None,
        compiled: bool = False,
        piece_samples: int | None = None,
    ) -> None:
        self._model = model
        self._streams = Streams(torch.device(model.device))
        self._piece = piece_samples or 0
        self._compiled = compiled
        self._slots: list[Slot] = []
        self._form: MatrixForm | None = None
        self.z_column = 0 if model.config is not None else None
        if compiled:
            use_inductor_cache(model.digest)
        self.info = EngineInfo(
            name="torch",
            version=torch.__version__,
            reason=reason,
            precision="float32",
            device=_device_name(self._streams.device),
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            piece_samples=piece_samples,
            compiled=compiled,
        )
        self._load("float32")
        if model.config is not None:
            checked, expected = reference_outputs(model)
            deviation = Deviation.between(self.predict(checked), expected)
            require_equal(deviation, "torch matrix")
            self.info = replace(self.info, deviation=deviation.to_dict())
        self._choose(precisions, max_deviation, samples)
        self._form = None  # the weights are on the device now

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """By name where all match, else in order."""
        return self._model.bind(tensor_names)

    def outputs(self, width: int) -> tuple[OutputSpec, ...]:
        """The redshift and what describes its p(z), or under the names that a program gives its outputs."""
        program = self._model.program
        return head_outputs(width) if program is None else program.outputs

    def predict(self, inputs: Sequence[Array]) -> Floats:
        """Outputs [B, width]."""
        return next(self.stream([inputs]))

    def stream(self, batches: Iterable[Sequence[Array]]) -> Generator[Floats]:
        """Outputs [B, width] of every batch, in order, up to `SLOTS` pieces behind."""
        sizes: deque[int] = deque()
        held: list[Floats] = []
        for outputs in self._pieces(_noting_sizes(batches, sizes)):
            held.append(outputs)
            while sizes and sum(map(len, held)) >= sizes[0]:
                size = sizes.popleft()
                joined = np.concatenate(held) if len(held) > 1 else held[0]
                yield joined[:size]
                held = [joined[size:]]

    def allocate(self, size_bytes: int) -> NDArray[np.uint8]:
        """Pinned memory: read into it, and the device fetches the samples by itself."""
        pinned: NDArray[np.uint8] = self._streams.pinned((size_bytes,), torch.uint8).numpy()
        return pinned

    def _choose(self, precisions: Sequence[str], bound: float | None, samples: Sequence[Array] | None) -> None:
        if precisions[0] == "float32":
            return
        exact = self.predict(samples) if samples is not None else None
        for precision in precisions:
            if exact is None and bound is not None:
                break
            self._load(precision)
            if samples is None or exact is None:
                self.info = replace(self.info, deviation=None)
                return
            deviation = Deviation.between(self.predict(samples), exact)
            if bound is None or deviation.p999_abs <= bound:
                self.info = replace(self.info, deviation=deviation.to_dict())
                return
        self._load("float32")
        why = f"{self.info.reason}; {' and '.join(precisions)} not accurate enough, or could not be tried"
        self.info = replace(self.info, reason=why)

    def _load(self, precision: str) -> None:
        """The module that computes in this precision."""
        model = self._model
        if model.config is not None:
            self._form = self._form or matrix_form(model.weights, model.config)
            self._eager: Callable[..., torch.Tensor] = MatrixAstroMAE(self._form, HALF.get(precision)).to(model.device)
        else:
            self._eager = model.module
        self._module = torch.compile(self._eager, dynamic=False) if self._compiled else self._eager
        self.info = replace(self.info, precision=precision)

    def _pieces(self, batches: Iterable[Sequence[Array]]) -> Iterator[Floats]:
        """Outputs [≤ piece, width] piece by piece, in order."""
        computing: deque[Slot] = deque()
        try:
            for slot in self._filled(batches):
                with self._failures():
                    self._launch(slot)
                computing.append(slot)
                if len(computing) == SLOTS:  # the next one to be filled is the first of them
                    yield self._collect(computing.popleft())
            while computing:
                yield self._collect(computing.popleft())
        finally:
            with suppress(RuntimeError):  # the error that ended the loop is the one to show
                self._streams.abandon()
            for slot in self._slots:
                slot.filled, slot.outputs = 0, None

    def _filled(self, batches: Iterable[Sequence[Array]]) -> Iterator[Slot]:
        """Slots in turn, each when it holds a whole piece; the last one as it is."""
        slots: Iterator[Slot] | None = None
        slot: Slot | None = None
        for inputs in batches:
            self._model.call.check_shapes(inputs)
            with self._failures():
                slots = slots or cycle(self._slots_for(inputs))
            start = 0
            while start < len(inputs[0]):
                slot = slot or next(slots)
                stop = min(len(inputs[0]), start + self._piece - slot.filled)
                with self._failures():
                    self._streams.append(slot, [values[start:stop] for values in inputs])
                start = stop
                if slot.filled >= self._piece:
                    yield slot
                    slot = None
            with self._failures():
                self._streams.wait_for_copies()
        if slot is not None:
            yield slot

    def _slots_for(self, inputs: Sequence[Array]) -> list[Slot]:
        """Slots for samples of these shapes; made once, smaller where the memory does not suffice."""
        rows = [values.shape[1:] for values in inputs]
        if self._slots and [tensor.shape[1:] for tensor in self._slots[0].on_device] == rows:
            return self._slots
        dtypes = [getattr(torch, wanted.dtype) for wanted in self._model.inputs]
        self._piece = self._piece or self._fitting_piece(rows, dtypes)
        while True:
            self._slots = []
            shapes = [(self._piece, *row) for row in rows]
            with self._out_of_memory(self._piece) as memory:
                self._slots = [self._streams.slot(shapes, dtypes) for _ in range(SLOTS)]
            if not memory.short:
                self._note_piece()
                return self._slots

    def _fitting_piece(self, rows: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]) -> int:
        """The power of two of samples whose values take `MEMORY_SHARE` of the card, by what a few of them take."""
        device = self._streams.device
        if not self._streams.has_streams:
            return MIN_PIECE
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        trial = [
            torch.zeros((TRIAL_SAMPLES, *row), dtype=d, device=device) for row, d in zip(rows, dtypes, strict=True)
        ]
        self._call(self._eager, trial)
        sample_bytes = (torch.cuda.max_memory_allocated(device) - before) / TRIAL_SAMPLES
        fitting = MEMORY_SHARE * torch.cuda.mem_get_info(device)[1] / sample_bytes
        return min(MAX_PIECE, max(MIN_PIECE, 1 << int(fitting).bit_length() - 1))

    def _launch(self, slot: Slot) -> None:
        """Starts the computation of a slot and the way back of its outputs."""
        self._streams.begin()
        outputs: list[torch.Tensor] = []
        done = 0
        while done < slot.filled:
            count = min(self._piece, slot.filled - done)
            with self._out_of_memory(count) as memory:
                outputs.append(self._outputs(slot, done, count))
            done += 0 if memory.short else count
        slot.outputs = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        self._streams.fetch(slot)

    def _outputs(self, slot: Slot, start: int, count: int) -> torch.Tensor:
        """Outputs [count, width] of the slot's samples from `start` on, on the device."""
        step = self._piece if self._compiled else min(SHAPE_STEP, self._piece)
        stop = min(start + -(-count // step) * step, slot.capacity)
        for tensor in slot.on_device:
            tensor[start + count : stop].zero_()
        found = self._call(self._module, [tensor[start:stop] for tensor in slot.on_device])
        return found[:count].reshape(count, -1).float()

    def _call(self, module: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        precision = self.info.precision
        whole = HALF.get(precision) if self._model.config is None else None
        autocast = torch.autocast(self._streams.device.type, dtype=whole) if whole else nullcontext()
        with torch.inference_mode(), _tf32_products(allowed=precision != "float32"), autocast:
            return module(*tensors)

    def _collect(self, slot: Slot) -> Floats:
        with self._failures():
            return self._streams.collect(slot)

    @contextmanager
    def _out_of_memory(self, count: int) -> Iterator["_Memory"]:
        """Notes if it does not suffice for `count` samples; pieces have half as many from then on."""
        memory = _Memory()
        try:
            yield memory
        except torch.OutOfMemoryError as error:
            memory.short = True
            if count == 1:
                raise ModelError(
                    f"the memory of {self.info.device} does not suffice for one sample of this model; use a GPU with "
                    "more memory or --device cpu."
                ) from error
        if memory.short:
            self._piece = 1 << (count - 1).bit_length() - 1
            self._note_piece(f"; out of memory with {count} samples at once, {self._piece} from then on")
            if self._streams.has_streams:
                torch.cuda.empty_cache()

    def _note_piece(self, why: str = "") -> None:
        self.info = replace(self.info, piece_samples=self._piece, reason=self.info.reason + why)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise torch's errors as ours: a card that fails is worth another try, a model that does is not."""
        try:
            yield
        except RuntimeError as error:
            first = first_line(error)
            if isinstance(error, torch.AcceleratorError) or first.startswith("CUDA error"):
                raise DeviceLost(
                    f"{self.info.device} failed ({first}); the rank has to be tried again in a new process."
                ) from error
            advice = "; try without --compile" if self._compiled else ""
            raise ModelError(f"the model failed on {self.info.device}: {first}{advice}") from error


class _Memory:
    """Whether it was short."""

    short = False


def _noting_sizes(batches: Iterable[Sequence[Array]], sizes: deque[int]) -> Iterator[Sequence[Array]]:
    for inputs in batches:
        sizes.append(len(inputs[0]))
        yield inputs


@contextmanager
def _tf32_products(*, allowed: bool) -> Iterator[None]:
    """TF32 in float32 products only where it is allowed; PyTorch's switches are of the whole process."""
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == CUDA else str(device)
