"""Reads rows of chunked datasets: chunks by byte ranges, decoded by zlib and numpy within their own size."""

import math
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyfan import store
from skyfan.formats.base import MAX_DECODED_BYTES, planned_version, refusal
from skyfan.formats.hdf5._opening import DEFLATE, FLETCHER32, SHUFFLE
from skyfan.formats.hdf5._serving import described
from skyfan.layout import TensorSpec

_MAX_KEPT_INDICES = 16
_KEPT_CHUNK_BYTES = 64 * 2**20
_CHECKSUM_BYTES = 4
# Of Fletcher's checksum; so few words at once that their sums stay far below 2^64.
_MODULUS, _SUMMED_WORDS = 65_535, 2**16


@dataclass(frozen=True)
class _Index:
    """Where a dataset's chunks are: [chunks, rank] first elements, byte offsets, sizes, masks of skipped filters."""

    uri: str
    name: str
    etag: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    filters: tuple[int, ...]
    first: np.ndarray
    at: np.ndarray
    size: np.ndarray
    mask: np.ndarray
    fill: np.ndarray


def read_rows(
    uri: store.StrPath,
    specs: Sequence[TensorSpec],
    start: int,
    stop: int,
    etag: str | None,
    stats: store.ReadStats | None,
) -> dict[str, np.ndarray]:
    """Rows [start, stop) as stored.

    Raises:
        DatasetError: the file is damaged, or is not what its plan tells.
        store.PreconditionFailed: the file has changed.
    """
    names = {spec.name: spec.source or spec.name for spec in specs}
    indices = _INDICES.get(uri, sorted(names.values()), etag, stats)
    return {spec.name: _rows(indices[names[spec.name]], start, stop, spec, stats) for spec in specs}


def _rows(index: _Index, start: int, stop: int, spec: TensorSpec, stats: store.ReadStats | None) -> np.ndarray:
    if math.prod(index.shape[1:]) != math.prod(spec.stored_row_shape) or stop > index.shape[0]:
        raise refusal(index.uri, f"holds {index.name} of shape {list(index.shape)}, not {list(spec.shape)}")
    found = np.empty((stop - start, *index.shape[1:]), index.dtype)
    found[...] = index.fill
    wanted = np.flatnonzero((index.first[:, 0] < stop) & (index.first[:, 0] + index.chunk[0] > start))
    wanted = wanted[np.argsort(index.at[wanted])]
    for part in _parts(index, wanted):
        for number, chunk in zip(part, _decoded(index, part, stats), strict=True):
            first = index.first[number].tolist()
            ends = [min(size, at + length) for size, at, length in zip(index.shape, first, index.chunk, strict=True)]
            begins = [max(start, first[0]), *first[1:]]
            ends[0] = min(stop, ends[0])
            inside = tuple(slice(lo - at, hi - at) for lo, hi, at in zip(begins, ends, first, strict=True))
            target = (slice(begins[0] - start, ends[0] - start), *map(slice, begins[1:], ends[1:]))
            found[target] = chunk[inside]
    return found.astype(index.dtype.newbyteorder("="), copy=False).reshape(
        stop - start, *(spec.stored_row_shape[axis] for axis in spec.order)
    )


def _parts(index: _Index, wanted: np.ndarray) -> list[list[int]]:
    """So many chunks at once that what is held of them is bounded."""
    count = max(1, _KEPT_CHUNK_BYTES // max(1, math.prod(index.chunk) * index.dtype.itemsize))
    return [wanted[at : at + count].tolist() for at in range(0, len(wanted), count)]


def _decoded(index: _Index, numbers: Sequence[int], stats: store.ReadStats | None) -> list[np.ndarray]:
    """Chunks by number; those that were decoded before are not read again."""
    keys = {number: (index.uri, index.etag, index.name, number) for number in numbers}
    found = {number: chunk for number, key in keys.items() if (chunk := _CHUNKS.get(key)) is not None}
    new = [number for number in numbers if number not in found]
    ranges = [(int(index.at[number]), int(index.at[number] + index.size[number])) for number in new]
    data = np.empty(sum(stop - start for start, stop in ranges), np.uint8)
    store.read_into(index.uri, ranges, data.data, etag=index.etag, stats=stats)
    position = 0
    for number, (start, stop) in zip(new, ranges, strict=True):
        found[number] = _decode(index, data[position : position + stop - start], int(index.mask[number]))
        position += stop - start
        _CHUNKS.add(keys[number], found[number])
    return [found[number] for number in numbers]


def _decode(index: _Index, data: np.ndarray, mask: int) -> np.ndarray:
    """One chunk; filters are undone from the last to the first, but for those that the mask tells were skipped."""
    size_bytes = math.prod(index.chunk) * index.dtype.itemsize
    for position, number in reversed(list(enumerate(index.filters))):
        if mask >> position & 1:
            continue
        if number == FLETCHER32:
            data = _checked(index, data)
        elif number == DEFLATE:
            data = _inflated(index, data, size_bytes + _CHECKSUM_BYTES)
        elif number == SHUFFLE:
            whole = len(data) // index.dtype.itemsize * index.dtype.itemsize
            data = np.ascontiguousarray(data[:whole].reshape(index.dtype.itemsize, -1).T).reshape(-1)
    if len(data) != size_bytes:
        raise _damaged(index)
    return np.ascontiguousarray(data).view(index.dtype).reshape(index.chunk)


def _checked(index: _Index, data: np.ndarray) -> np.ndarray:
    """The bytes before their checksum, whose two halves old versions of HDF5 wrote with their bytes swapped."""
    data, stored = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:].tobytes()
    sums = fletcher32(data)
    halves = (struct.unpack(form, stored) for form in ("<2H", ">2H") if len(stored) == _CHECKSUM_BYTES)
    if all((first % _MODULUS, second % _MODULUS) != sums for first, second in halves):
        raise _damaged(index)
    return data


def fletcher32(data: np.ndarray) -> tuple[int, int]:
    """The sums of big-endian words of 16 bits, and of these sums, modulo 65,535: H5checksum.c of HDF5."""
    words = np.pad(data, (0, len(data) % 2)).view(">u2")
    first = second = 0
    for at in range(0, len(words), _SUMMED_WORDS):
        part = words[at : at + _SUMMED_WORDS].astype(np.uint64)
        left = np.arange(len(part), 0, -1, dtype=np.uint64)
        second = (second + first * len(part) + int(part @ left)) % _MODULUS
        first = (first + int(part.sum())) % _MODULUS
    return first, second


def _inflated(index: _Index, data: np.ndarray, limit_bytes: int) -> np.ndarray:
    try:
        return np.frombuffer(zlib.decompressobj().decompress(data.data, limit_bytes), np.uint8)
    except zlib.error as error:
        raise _damaged(index) from error


def _damaged(index: _Index) -> Exception:
    return refusal(index.uri, f"is damaged: a chunk of {index.name} is not what its filters make; copy it again")


class _Indices:
    """The indices of the datasets that a process reads, by version of the file."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str], _Index] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, uri: store.StrPath, names: Sequence[str], etag: str | None, stats: store.ReadStats | None
    ) -> dict[str, _Index]:
        """Indices by name, asked for now if they are not known."""
        info = planned_version(uri, etag)
        with self._lock:
            new = [name for name in names if (info.uri, info.etag, name) not in self._known]
            for one in described(info, new, stats)["datasets"] if new else ():
                self._known[info.uri, info.etag, one["name"]] = _index(info, one)
            found = {name: self._known[info.uri, info.etag, name] for name in names}
            while len(self._known) > max(_MAX_KEPT_INDICES, len(names)):
                self._known.popitem(last=False)
            return found


def _index(info: store.ObjectInfo, one: dict[str, Any]) -> _Index:
    shape, chunk, dtype = tuple(one["shape"]), tuple(one["chunk"] or ()), np.dtype(one["dtype"])
    if not chunk or math.prod(chunk) * dtype.itemsize > MAX_DECODED_BYTES:
        raise refusal(info.uri, f"has no chunks of {one['name']} that can be read")
    table = np.array(one["index"], np.int64).reshape(-1, len(chunk) + 3)
    first, at, size = table[:, :-3], table[:, -3], table[:, -2]
    if (table < 0).any() or (at + size > info.size_bytes).any() or (first >= np.array(shape)).any():
        raise refusal(info.uri, f"is damaged: chunks of {one['name']} lie outside it; copy it again")
    fill = np.frombuffer(bytes.fromhex(one["fill"]), dtype)[:1] if one["fill"] else np.zeros(1, dtype)
    return _Index(
        info.uri,
        one["name"],
        info.etag,
        shape,
        chunk,
        dtype,
        tuple(one["filters"]),
        first,
        at,
        size,
        table[:, -1],
        fill,
    )


class _Chunks:
    """Chunks decoded last, of bounded size: the next block of samples often begins in the middle of one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, str, int]) -> np.ndarray | None:
        with self._lock:
            return self._kept.get(key)

    def add(self, key: tuple[str, str, str, int], chunk: np.ndarray) -> None:
        with self._lock:
            if key in self._kept or chunk.nbytes > _KEPT_CHUNK_BYTES:
                return
            self._kept[key] = chunk
            self._bytes += chunk.nbytes
            while self._bytes > _KEPT_CHUNK_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


_INDICES, _CHUNKS = _Indices(), _Chunks()
