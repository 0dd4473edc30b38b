"""Streaming: blocks of samples are read ahead by one thread while the model works on the block before.

Memory is bounded by `BUFFERS` blocks, whatever the partition's size: one that the model works on, those that
wait in the queue, and one that is being read. The buffers are used again and again.
"""

import queue
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import DatasetError, DeadlineExceeded
from skyfan.plan import FileLayout, PlanItem, Span
from skyfan.tensorfile import TensorSpec, batch_bytes, read_batch

BLOCK_BYTES = 12 * 2**20
BUFFERS = 3
_POLL_S = 0.2
_READ_DEADLINE_S = 300.0

Buffer = NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Consecutive samples: tensors by name, each with `count` rows; the first is sample `first_sample`.

    The tensors are views of `buffer`, which is filled anew when the next block is asked for.
    """

    first_sample: int
    count: int
    tensors: dict[str, NDArray[np.generic]]
    buffer: Buffer


def _cuts(item: PlanItem, batch_size: int) -> Iterator[tuple[FileLayout, Span]]:
    """Spans of about `BLOCK_BYTES`, whole batches each, so that batches are the same for any block size."""
    for span in item.spans:
        file = item.files[span.file]
        step = batch_size * max(1, BLOCK_BYTES // max(1, file.sample_bytes * batch_size))
        for start in range(span.start, span.stop, step):
            stop = min(start + step, span.stop)
            first_sample = span.first_sample + start - span.start
            yield file, Span(file=span.file, start=start, stop=stop, first_sample=first_sample)


@dataclass
class ReadAhead:
    """Reads an item's blocks in order on a thread of its own.

    Of the tensors called `names`, those that are there are read. `read_s` is the time that reading took, and
    `stats` counts its requests.
    """

    item: PlanItem
    names: Set[str]
    batch_size: int
    stats: store.ReadStats = field(default_factory=store.ReadStats)
    read_s: float = 0.0
    _ready: "queue.Queue[Block | Exception | None]" = field(default_factory=lambda: queue.Queue(BUFFERS + 1))
    _free: "queue.Queue[Buffer]" = field(default_factory=lambda: queue.Queue(BUFFERS))
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def blocks(self) -> Iterator[Iterator[Block]]:
        """The blocks; the reading thread ends with the `with` block."""
        for _ in range(BUFFERS):
            self._free.put(np.empty(0, np.uint8))
        thread = threading.Thread(target=self._produce, name="skyfan-read-ahead", daemon=True)
        thread.start()
        try:
            yield self._consume()
        finally:
            self._stopped.set()
            thread.join(_READ_DEADLINE_S)

    def _consume(self) -> Iterator[Block]:
        while True:
            try:
                entry = self._ready.get(timeout=_READ_DEADLINE_S)
            except queue.Empty:
                raise DeadlineExceeded(f"rank {self.item.rank}: no data for {_READ_DEADLINE_S:.0f} s.") from None
            if entry is None:
                return
            if isinstance(entry, Exception):
                raise entry
            yield entry
            self._free.put(entry.buffer)

    def _produce(self) -> None:
        # `_ready` has room for every buffer and one last word, so that only taking a buffer ever waits.
        try:
            for file, span in _cuts(self.item, self.batch_size):
                buffer = self._take_buffer()
                if buffer is None:
                    return
                start = time.perf_counter()
                block = self._read(file, span, buffer)
                self.read_s += time.perf_counter() - start
                self._ready.put(block)
            self._ready.put(None)
        except Exception as error:  # noqa: BLE001 (raised again on the consumer's thread)
            self._ready.put(error)

    def _take_buffer(self) -> Buffer | None:
        while not self._stopped.is_set():
            try:
                return self._free.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return None

    def _read(self, file: FileLayout, span: Span, buffer: Buffer) -> Block:
        wanted: list[TensorSpec] = [spec for spec in file.tensors if spec.name in self.names]
        needed_bytes = batch_bytes(wanted, span.samples)
        if len(buffer) < needed_bytes:
            buffer = np.empty(needed_bytes, np.uint8)
        try:
            tensors = read_batch(
                file.uri, wanted, span.start, span.stop, buffer=buffer, etag=file.etag, stats=self.stats
            )
        except store.PreconditionFailed as error:
            raise DatasetError(f"{file.uri} changed since the run was planned; run with another --output.") from error
        return Block(span.first_sample, span.samples, tensors, buffer)
