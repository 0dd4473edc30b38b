"""Streaming: blocks of samples are read ahead, several at once, while the model works on the block before.

Memory is bounded by the number of buffers, a block each, whatever the partition's size: one block that the model works
on, and those that are being read or wait for it. The buffers are used again and again. Tensors with narrow rows, of
which a block has a few kilobytes, are read for many blocks at once: a block is one request, not one a tensor.
"""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import DatasetError, DeadlineExceeded
from skyfan.formats.checksums import ReadChecksums
from skyfan.formats.row_values import finite_rows
from skyfan.formats.rows import OnStored, batch_bytes, read_batch
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import PlanItem, Span

BLOCK_BYTES = 12 * 2**20
# Of a block, a tensor with fewer bytes is narrow; of all narrow tensors together so much is read at once.
NARROW_BYTES = 256 * 2**10
WINDOW_BYTES = 2**20
_READ_DEADLINE_S = 300.0

Arrays = dict[str, NDArray[np.generic]]
Buffer = NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Consecutive samples: tensors by name, each with `count` rows; the first is sample `first_sample`.

    Wide tensors are views of `buffer`, which is filled anew when the next block is asked for. `finite`: which rows of
    the wide tensors of real numbers hold no NaN and no infinity.
    """

    first_sample: int
    count: int
    tensors: Arrays
    buffer: Buffer
    finite: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class _BlockRequest:
    """One block to be read; its narrow tensors are rows of those of `window`, which are read once."""

    file: FileLayout
    span: Span
    wide: tuple[TensorSpec, ...]
    window: "_Window"


class _Window:
    """The narrow tensors of several blocks: the first thread that needs them reads them, the others wait."""

    def __init__(self, file: FileLayout, specs: tuple[TensorSpec, ...], start: int, stop: int) -> None:
        self._file, self._specs, self._start, self._stop = file, specs, start, stop
        self._arrays: Arrays | None = None
        self._lock = threading.Lock()

    def rows(self, span: Span, stats: store.ReadStats, on_stored: OnStored | None) -> Arrays:
        """The rows of `span`, which lies inside."""
        with self._lock:
            if self._arrays is None:
                self._arrays = read_batch(
                    self._file.uri,
                    self._specs,
                    self._start,
                    self._stop,
                    etag=self._file.etag,
                    stats=stats,
                    on_stored=on_stored,
                )
        inside = slice(span.start - self._start, span.stop - self._start)
        return {name: values[inside] for name, values in self._arrays.items()}


def _block_requests(item: PlanItem, names: Set[str], batch_size: int) -> Iterator[_BlockRequest]:
    """Spans of about `BLOCK_BYTES`, whole batches each, so that batches are the same for any block size."""
    for span in item.spans:
        file = item.files[span.file]
        step = batch_size * max(1, BLOCK_BYTES // max(1, file.sample_bytes * batch_size))
        wanted = [spec for spec in file.tensors if spec.name in names]
        # Columns of a table lie in one another's gaps: they are read together, as wide ones.
        narrow = tuple(spec for spec in wanted if _is_contiguous(spec) and spec.row_bytes * step < NARROW_BYTES)
        wide = tuple(spec for spec in wanted if spec not in narrow)
        blocks = max(1, WINDOW_BYTES // max(1, batch_bytes(narrow, step)))
        for first in range(span.start, span.stop, step * blocks):
            last = min(first + step * blocks, span.stop)
            window = _Window(file, narrow, first, last)
            for start in range(first, last, step):
                part = Span(
                    file=span.file,
                    start=start,
                    stop=min(start + step, last),
                    first_sample=span.first_sample + start - span.start,
                )
                yield _BlockRequest(file, part, wide, window)


def _allocate(size_bytes: int) -> Buffer:
    return np.empty(size_bytes, np.uint8)


def _is_contiguous(spec: TensorSpec) -> bool:
    return spec.storage == "bytes" and spec.stride_bytes is None


@dataclass
class ReadAhead:
    """Reads an item's blocks on threads of its own, and gives them in order.

    Of the tensors called `names`, those that are there are read, into memory of `allocate(bytes)`. `read_s` is the
    time in which anything was being read, and `stats` counts the requests. `checksums`, where given, takes those of all
    rows that are read.
    """

    item: PlanItem
    names: Set[str]
    batch_size: int
    allocate: Callable[[int], Buffer] = _allocate
    buffers: int = 3
    checksums: ReadChecksums | None = None
    stats: store.ReadStats = field(default_factory=store.ReadStats)
    read_s: float = 0.0
    _reading: int = 0
    _reading_since: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def blocks(self) -> Iterator[Iterator[Block]]:
        """The blocks; with the `with` block ends the reading, but for what was asked of the store before."""
        pool = ThreadPoolExecutor(self.buffers - 1, "skyfan-read-ahead")
        try:
            yield self._ahead(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ahead(self, pool: ThreadPoolExecutor) -> Iterator[Block]:
        requests = _block_requests(self.item, self.names, self.batch_size)
        free: list[Buffer] = [np.empty(0, np.uint8) for _ in range(self.buffers)]
        asked: deque[Future[Block]] = deque()

        def ask(depth: int) -> None:
            while free and len(asked) < depth and (request := next(requests, None)):
                asked.append(pool.submit(self._read, request, free.pop()))

        # The first block comes alone: the model waits for it, and others would take of its bandwidth.
        ask(1)
        while asked:
            block = self._wait(asked.popleft())
            ask(self.buffers - 1)
            yield block
            free.append(block.buffer)

    def _wait(self, asked: "Future[Block]") -> Block:
        try:
            return asked.result(_READ_DEADLINE_S)
        except TimeoutError:
            raise DeadlineExceeded(f"rank {self.item.rank}: no data for {_READ_DEADLINE_S:.0f} s.") from None

    def _read(self, request: _BlockRequest, buffer: Buffer) -> Block:
        file, span = request.file, request.span
        needed_bytes = batch_bytes(request.wide, span.samples)
        if len(buffer) < needed_bytes:
            buffer = self.allocate(needed_bytes)
        on_stored = functools.partial(self.checksums.add, file) if self.checksums else None
        with self._timed():
            try:
                narrow = request.window.rows(span, self.stats, on_stored)
                wide = read_batch(
                    file.uri,
                    request.wide,
                    span.start,
                    span.stop,
                    buffer=buffer,
                    etag=file.etag,
                    stats=self.stats,
                    on_stored=on_stored,
                )
            except store.PreconditionFailed as error:
                raise DatasetError(
                    f"{file.uri} changed since the run was planned; run with another --output."
                ) from error
        # Here, on the reading threads, as it takes as long as the reading from memory does.
        finite = {name: finite_rows(values) for name, values in wide.items() if values.dtype.kind == "f"}
        return Block(span.first_sample, span.samples, narrow | wide, buffer, finite)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Counts time in which several blocks are read at once only once."""
        with self._lock:
            if not self._reading:
                self._reading_since = time.perf_counter()
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                if not self._reading:
                    self.read_s += time.perf_counter() - self._reading_since
