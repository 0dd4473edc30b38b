"""Parquet files and HATS partitions: row groups are decoded one at a time, and lists become rows of their shape.

A number or string is a column; so is a list of numbers that has equally many in every row, and each member of a struct
(`lightcurve.flux`), as nested columns are written. Nothing but the file itself is read: a footer that names other
files (`file_path`) is refused.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skyfan import store
from skyfan.dtypes import numpy_dtype
from skyfan.formats.base import MAX_COLUMNS, MAX_DECODED_BYTES, check_name, column, layout, planned_version, refusal
from skyfan.formats.notes import NOTE_KEY, as_note
from skyfan.formats.parquet_footer import RowGroup, read_footer
from skyfan.layout import FileLayout, TensorSpec
from skyfan.plain_text import first_line

_MAX_FOOTER_BYTES = 16 * 2**20
_DECODED_GROUPS = 2

Groups = tuple[RowGroup, ...]


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns by their names, `struct.member` inside structs. What is neither number, text nor such a list is left out.

    Raises:
        DatasetError: it is no Parquet file, names other files, is encrypted, or has row groups too large to decode.
    """
    info = store.head(uri)
    file = _opened(info)
    columns = [spec for name, kind in file.leaves if (spec := _column(info.uri, name, kind, file.groups))]
    held = {spec.name for spec in columns}
    left_out = [f"{name} ({kind})" for name, kind in file.leaves if name not in held]
    note = as_note((file.metadata.metadata or {}).get(NOTE_KEY.encode()))
    return layout(info, "parquet", columns, repr(file.leaves).encode(), left_out=left_out, note=note)


def read_rows(
    uri: store.StrPath,
    specs: Sequence[TensorSpec],
    start: int,
    stop: int,
    etag: str | None,
    stats: store.ReadStats | None,
) -> dict[str, np.ndarray]:
    """Rows [start, stop) as stored; the row groups that hold them are decoded whole, and the last two are kept.

    Raises:
        DatasetError: a list has another length than the first, or the file is damaged.
        store.PreconditionFailed: the file has changed.
    """
    file = _FILES.get(uri, etag, stats)
    parts: dict[str, list[np.ndarray]] = {spec.name: [] for spec in specs}
    for group, first, last in _groups(file.groups, start, stop):
        for spec in specs:
            parts[spec.name].append(file.column(spec, group, stats)[first:last])
    return {spec.name: np.concatenate(parts[spec.name]) if parts[spec.name] else _empty(spec) for spec in specs}


def _empty(spec: TensorSpec) -> np.ndarray:
    return np.empty((0, *spec.stored_row_shape), numpy_dtype(spec.dtype))


def _opened(info: store.ObjectInfo, stats: store.ReadStats | None = None) -> "_File":
    tail = store.read_range(info.uri, max(0, info.size_bytes - 8), info.size_bytes, etag=info.etag, stats=stats)
    if tail[4:] == b"PARE":
        raise refusal(info.uri, "is an encrypted Parquet file; write it again without encryption")
    length_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or not 0 < length_bytes <= min(_MAX_FOOTER_BYTES, info.size_bytes - 8):
        raise refusal(info.uri, "is not a Parquet file, or is damaged or truncated; copy it again")
    start = info.size_bytes - 8 - length_bytes
    footer = store.read_range(info.uri, start, info.size_bytes, etag=info.etag, stats=stats)
    try:
        groups = read_footer(footer[:-8])
        # No more than the footer is parsed, so that no file is needed yet.
        metadata = pq.read_metadata(pa.BufferReader(b"PAR1" + footer))
        leaves = list(_leaves(metadata.schema.to_arrow_schema()))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise refusal(info.uri, f"is a damaged Parquet file ({first_line(error)[:200]}); copy it again") from error
    if len(leaves) > MAX_COLUMNS:
        raise refusal(info.uri, f"has {len(leaves)} columns; at most {MAX_COLUMNS} are read")
    if any(chunk.file_path for group in groups for chunk in group.chunks):
        raise refusal(info.uri, "keeps columns in other files (file_path), which are not opened; name those files")
    return _File(info, metadata, groups, leaves)


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Name and type of each column, members of structs one by one."""
    waiting = [(one.name, one.type) for one in reversed(schema)]
    while waiting:
        name, kind = waiting.pop()
        if pa.types.is_struct(kind):
            waiting += [(f"{name}.{kind.field(i).name}", kind.field(i).type) for i in reversed(range(kind.num_fields))]
        else:
            yield name, kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _column(uri: str, name: str, kind: pa.DataType, groups: Groups) -> TensorSpec | None:
    """The spec of a column; None for what cannot be one."""
    depth, fixed = 0, []
    while _is_list(kind):
        fixed.append(kind.list_size if pa.types.is_fixed_size_list(kind) else 0)
        kind, depth = kind.value_type, depth + 1
    samples = sum(group.rows for group in groups)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not depth and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        check_name(uri, name)
        return TensorSpec(name, "string", (samples,), 0, (), storage="parquet")
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    shape = tuple(fixed)
    if not all(shape):
        values = _values_per_row(name, groups)
        if values is None:
            return None
        shape = (values,)
    spec = column(uri, name, np.dtype(kind.to_pandas_dtype()), (samples, *shape), storage="parquet")
    _check_groups(uri, spec, groups)
    return spec


def _values_per_row(name: str, groups: Groups) -> int | None:
    """How many values a list column has in every row, as its row groups tell; None where that differs."""
    found = {
        chunk.values / group.rows
        for group in groups
        for chunk in group.chunks
        if group.rows and _plain_path(chunk.path) == name
    }
    (count,) = found if len(found) == 1 else (0.0,)
    return int(count) if count >= 1 and count == int(count) else None


def _plain_path(path: str) -> str:
    """`flux` for `flux.list.element`, the names of levels that lists add left out."""
    return path.split(".list.", 1)[0]


def _check_groups(uri: str, spec: TensorSpec, groups: Groups) -> None:
    rows = max((group.rows for group in groups), default=0)
    if rows * spec.row_bytes > MAX_DECODED_BYTES:
        raise refusal(
            uri,
            f"has row groups of {rows} rows, {rows * spec.row_bytes // 2**20} MB of column {spec.name!r}, where "
            f"{MAX_DECODED_BYTES // 2**20} MB are decoded at once; write it again with a smaller row_group_size",
        )


def _groups(groups: Groups, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Row groups that hold rows [start, stop), each with the first and the end of its rows that are meant."""
    first = 0
    for number, group in enumerate(groups):
        lo, hi = max(start, first), min(stop, first + group.rows)
        if lo < hi:
            yield number, lo - first, hi - first
        first += group.rows


@dataclass
class _File:
    """One opened version of a file, and what was decoded of it last."""

    info: store.ObjectInfo
    metadata: Any
    groups: Groups
    leaves: list[tuple[str, pa.DataType]]
    _decoded: "OrderedDict[tuple[str, int], np.ndarray]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def column(self, spec: TensorSpec, group: int, stats: store.ReadStats | None) -> np.ndarray:
        """A row group's rows of a column as stored; neighbouring blocks of samples ask for the same ones."""
        key = spec.source or spec.name
        with self._lock:
            if (key, group) not in self._decoded:
                ours = [one for one in self._decoded if one[0] == key]
                for old in ours[: 1 - _DECODED_GROUPS]:
                    del self._decoded[old]
                self._decoded[key, group] = self._decode(key, spec, group, stats)
            self._decoded.move_to_end((key, group))
            return self._decoded[key, group]

    def _decode(self, key: str, spec: TensorSpec, group: int, stats: store.ReadStats | None) -> np.ndarray:
        uri = self.info.uri
        try:
            source = pa.PythonFile(store.RangeFile(self.info, stats), mode="r")
            file = pq.ParquetFile(source, metadata=self.metadata, pre_buffer=False)
            table = file.read_row_group(group, columns=[key], use_threads=False)
            array = member(table, key)
            texts = np.array(array.to_pylist(), object) if spec.dtype == "string" else None
        except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            raise refusal(uri, f"is a damaged Parquet file ({first_line(error)[:200]}); copy it again") from error
        if len(array) != self.groups[group].rows:
            raise refusal(uri, f"has {len(array)} rows in row group {group}, which its footer has not; copy it again")
        return _numbers(uri, key, array, spec) if texts is None else texts


def member(table: pa.Table, key: str) -> pa.Array:
    """The column, or the member of a struct, that a layout calls so, as one array."""
    name, *members = [key] if key in table.column_names else key.split(".")
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    while members:
        # Not `field`, by which a member of a row without a struct may have a value.
        array = array.flatten()[array.type.get_field_index(members.pop(0))]
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _numbers(uri: str, key: str, array: pa.Array, spec: TensorSpec) -> np.ndarray:
    """A column of numbers, or of lists of them, as [rows, *stored_row_shape]; a missing number is NaN."""
    dtype = numpy_dtype(spec.stored.dtype if spec.stored else spec.dtype)
    rows, width = len(array), spec.row_bytes // max(1, dtype.itemsize)
    while _is_list(array.type):
        counts = array.value_lengths()
        even = counts.null_count == 0 and len(counts.unique()) <= 1
        if not even:
            raise refusal(uri, f"has lists of several lengths, or none, in column {key!r}; pad them, or leave it out")
        array = array.flatten()
    if len(array) != rows * width:
        raise refusal(
            uri, f"has {len(array)} values in column {key!r} where {rows * width} were told of; copy it again"
        )
    if array.null_count:
        if dtype.kind != "f":
            raise refusal(
                uri, f"has {array.null_count} missing values in column {key!r} of {dtype}; write it as floats"
            )
        array = array.fill_null(float("nan"))
    values: np.ndarray = array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return values.reshape(rows, *(spec.stored_row_shape[axis] for axis in spec.order))


class _OpenFiles:
    """The files that a process reads, by version: a rank asks for one block after another."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._files: OrderedDict[tuple[str, str], _File] = OrderedDict()

    def get(self, uri: store.StrPath, etag: str | None, stats: store.ReadStats | None) -> _File:
        """The file in the version `etag`, opened now if it was not."""
        info = planned_version(uri, etag)
        key = (info.uri, info.etag)
        with self._lock:
            if key not in self._files:
                while len(self._files) >= self._limit:
                    self._files.popitem(last=False)
                self._files[key] = _opened(info, stats)
            self._files.move_to_end(key)
            return self._files[key]


_FILES = _OpenFiles(2)
