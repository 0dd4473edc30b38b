"""Reads rows of a dataset file: byte ranges where they are such, else through the format's library."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from skyfan import store
from skyfan.formats.registry import library_format
from skyfan.layout import FileLayout, TensorSpec

OnStored = Callable[[TensorSpec, int, int, memoryview], None]
"""Called with a tensor, the first row, the one after the last, and their bytes as stored."""


def read_rows(file: FileLayout, name: str, start: int, stop: int) -> np.ndarray:
    """Rows [start, stop) of one tensor as an array [stop − start, *row_shape].

    Raises:
        DatasetError: the file has no such tensor or rows.
        store.PreconditionFailed: the file has changed since `file` was read.
    """
    return read_batch(file.uri, [file.tensor(name)], start, stop, etag=file.etag)[name]


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
    made here where it is not given, or copies. A streaming reader gives the same buffer again when it is done with
    the arrays. `on_stored` sees each tensor's bytes as they are in the file.

    Raises:
        ValueError: the buffer is too small.
        DatasetError: the file holds other rows than it told.
        store.PreconditionFailed: the file is no longer the version named by `etag`.
    """
    own = [spec for spec in specs if not spec.uri]
    needed_bytes = batch_bytes(own, stop - start)
    data = np.empty(needed_bytes, np.uint8) if buffer is None else buffer[:needed_bytes]
    if len(data) < needed_bytes:
        raise ValueError(f"the buffer has {len(data)} bytes, {needed_bytes} are needed")
    # Widest elements first, so that every part is aligned; text needs none.
    ordered = sorted(
        (spec for spec in own if spec.storage == "bytes"),
        key=lambda spec: (spec.stride_bytes or 0, -spec.itemsize if spec.dtype != "string" else 0),
    )
    arrays = _read_ranges(uri, ordered, start, stop, data, etag, stats, on_stored)
    others = sorted((spec for spec in own if spec.storage != "bytes"), key=lambda spec: spec.storage)
    for storage, group in groupby(others, key=lambda spec: spec.storage):
        of_library = list(group)
        found = library_format(storage).read_rows(uri, of_library, start, stop, etag, stats)
        for spec in of_library:
            arrays[spec.name] = spec.from_file(found[spec.name])
    for catalog in sorted({spec.uri for spec in specs if spec.uri}):  # whose name is that of its content: no ETag
        beside = [replace(spec, uri="") for spec in specs if spec.uri == catalog]
        arrays |= read_batch(catalog, beside, start, stop, stats=stats)
    return {spec.name: arrays[spec.name] for spec in specs}


def _read_ranges(
    uri: store.StrPath,
    specs: Sequence[TensorSpec],
    start: int,
    stop: int,
    data: np.ndarray,
    etag: str | None,
    stats: store.ReadStats | None,
    on_stored: OnStored | None,
) -> dict[str, np.ndarray]:
    groups = _groups(specs)
    ranges = [_byte_range(group, start, stop) for group in groups]
    total_bytes = sum(last - first for first, last in ranges)
    store.read_into(uri, ranges, data[:total_bytes].data, etag=etag, stats=stats)
    arrays, position, count = {}, 0, stop - start
    for group, (first, last) in zip(groups, ranges, strict=True):
        part = data[position : position + last - first]
        position += last - first
        for spec in group:
            if spec.stride_bytes is not None:
                at = spec.byte_range(start, stop)[0] - first
                strided = np.lib.stride_tricks.as_strided(
                    part[at:], (count, spec.row_bytes), (spec.stride_bytes, 1), writeable=False
                )
                arrays[spec.name] = spec.rows(np.array(strided).reshape(-1), count)
                continue
            if on_stored:
                on_stored(spec, start, stop, part.data)
            arrays[spec.name] = spec.rows(part, count)
    return arrays


def _groups(specs: Sequence[TensorSpec]) -> list[list[TensorSpec]]:
    """Columns whose rows lie in one another's gaps together, as those of a table: they are read once."""
    groups = [[spec] for spec in specs if spec.stride_bytes is None]
    strided = sorted(
        (spec for spec in specs if spec.stride_bytes is not None),
        key=lambda spec: (spec.distance_bytes, spec.offset_bytes),
    )
    for number, spec in enumerate(strided):
        first = groups[-1][0] if number else None
        same = first is not None and first.stride_bytes == spec.stride_bytes
        if first is not None and same and spec.offset_bytes < first.offset_bytes + spec.distance_bytes:
            groups[-1].append(spec)
        else:
            groups.append([spec])
    return groups


def _byte_range(group: Sequence[TensorSpec], start: int, stop: int) -> tuple[int, int]:
    ranges = [spec.byte_range(start, stop) for spec in group]
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def batch_bytes(specs: Sequence[TensorSpec], rows: int) -> int:
    """Bytes that `rows` rows of `specs` take while they are read."""
    total_bytes = 0
    for group in _groups([spec for spec in specs if spec.storage == "bytes" and not spec.uri]):
        first, last = _byte_range(group, 0, min(rows, group[0].samples))
        total_bytes += last - first
    return total_bytes
