"""Reads rows of a file whose tensors are byte ranges of it."""

from collections.abc import Callable, Sequence

import numpy as np

from skyfan import store
from skyfan.layout import FileLayout, TensorSpec

OnStored = Callable[[TensorSpec, int, int, memoryview], None]
"""Called with a tensor, the first row, the one after the last, and their bytes as stored."""


def read_rows(
    file: FileLayout, name: str, start: int, stop: int, *, stats: store.ReadStats | None = None
) -> np.ndarray:
    """Rows [start, stop) of one tensor as an array [stop − start, *row_shape].

    Raises:
        DatasetError: the file has no such tensor or rows.
        store.PreconditionFailed: the file has changed since `file` was read.
    """
    return read_batch(file.uri, [file.tensor(name)], start, stop, etag=file.etag, stats=stats)[name]


def read_batch(
    uri: store.StrPath,
    specs: Sequence[TensorSpec],
    start: int,
    stop: int,
    *,
    buffer: np.ndarray | None = None,
    etag: str | None = None,
    stats: store.ReadStats | None = None,
    on_stored: OnStored | None = None,
) -> dict[str, np.ndarray]:
    """Rows [start, stop) of several tensors by one parallel read: name → array [stop − start, *row_shape].

    The arrays are views of `buffer` (flat uint8, at least `batch_bytes(specs, stop - start)` long), which is
    made here where it is not given. A streaming reader gives the same buffer again when it is done with the arrays.
    `on_stored` sees each tensor's bytes as they are in the file.

    Raises:
        ValueError: the buffer is too small.
        store.PreconditionFailed: the file is no longer the version named by `etag`.
    """
    needed_bytes = batch_bytes(specs, stop - start)
    data = np.empty(needed_bytes, np.uint8) if buffer is None else buffer[:needed_bytes]
    if len(data) < needed_bytes:
        raise ValueError(f"the buffer has {len(data)} bytes, {needed_bytes} are needed")
    # Widest elements first, so that every part is aligned.
    ordered = sorted(specs, key=lambda spec: -spec.itemsize)
    ranges = [spec.byte_range(start, stop) for spec in ordered]
    store.read_into(uri, ranges, data.data, etag=etag, stats=stats)
    arrays, position = {}, 0
    for spec, (first, last) in zip(ordered, ranges, strict=True):
        part = data[position : position + last - first]
        if on_stored:
            on_stored(spec, start, stop, part.data)
        arrays[spec.name] = spec.rows(part, stop - start)
        position += last - first
    return {spec.name: arrays[spec.name] for spec in specs}


def batch_bytes(specs: Sequence[TensorSpec], rows: int) -> int:
    """Bytes that `rows` rows of `specs` take."""
    return sum(spec.row_bytes for spec in specs) * rows
