"""Writes TensorDataset `.pt` files that torch reads, from arrays or from blocks of rows, without torch.

The same rows give the same bytes: the archive holds no time and no name. Storages begin at multiples of
64 bytes, as torch aligns them.
"""

import math
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from skyfan import store
from skyfan.dtypes import DTYPES, numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.torch._pickling import dataset_pickle

_ALIGNMENT = 64
_FOLDER = "archive"
_PADDED = struct.Struct("<2sH")
_SLICE_BYTES = 64 * 2**20


class _Stored:
    """One entry of the archive being written: where it is, and its content where that is known from the beginning."""

    def __init__(self, name: str, header_at: int, size_bytes: int, content: bytes = b"") -> None:
        self.info = zipfile.ZipInfo(f"{_FOLDER}/{name}")
        self.info.header_offset, self.info.CRC = header_at, zlib.crc32(content)
        self.info.file_size = self.info.compress_size = size_bytes
        self._content = content
        fixed = header_at + len(self._header()) + _PADDED.size
        padding = -fixed % _ALIGNMENT
        self.info.extra = _PADDED.pack(b"FB", padding) + b"Z" * padding
        self.data_at = fixed + padding
        self.end = self.data_at + size_bytes

    def write(self, file: BinaryIO) -> None:
        """Writes the header and the content that is known; the directory needs no padding."""
        _write_at(file, self.info.header_offset, self._header() + self._content)
        self.info.extra = b""

    def _header(self) -> bytes:
        return self.info.FileHeader(zip64=self.info.file_size > zipfile.ZIP64_LIMIT)


class TensorFileWriter:
    """Writes a TensorDataset of known size block by block, in the memory of one block.

        with TensorFileWriter("sky.pt", 4_000, [("float32", (5, 32, 32)), ("float32", (5,))]) as writer:
            for image, magnitude in blocks:
                writer.write(image, magnitude)

    The file appears, complete, when the block is left without an error and all rows were written; else
    there is nothing. A file that is not local is assembled in the temporary folder and uploaded at the end. `note` is
    what readers of results should know of the data: the archive's comment, which reports of runs show. The last tensors
    are attributes of the TensorDataset under the names `attributes`, so that its items stay those of the reference
    layout.
    """

    def __init__(
        self,
        uri: store.StrPath,
        samples: int,
        tensors: Sequence[tuple[str, tuple[int, ...]]],
        *,
        note: str = "",
        attributes: Sequence[str] = (),
    ) -> None:
        if samples < 1 or not tensors:
            raise DatasetError(f"{os.fspath(uri)}: a dataset has at least one sample and one tensor.")
        unknown = [dtype for dtype, _ in tensors if dtype not in DTYPES]
        if unknown:
            raise DatasetError(f"{os.fspath(uri)}: dtype {unknown[0]} cannot be written to a .pt file.")
        if any(0 in row_shape for _, row_shape in tensors):
            raise DatasetError(f"{os.fspath(uri)}: a tensor whose rows hold no values cannot be part of a dataset.")
        self._uri = uri
        self._samples = samples
        self._tensors = tensors
        self._attributes = attributes
        self._note = note.encode()
        self._written = 0
        target = store.local_path(uri)
        self._target = target
        self._temporary = store.temporary_beside(target or Path(tempfile.gettempdir()) / "dataset.pt")

    def __enter__(self) -> Self:
        with store.named_errors(os.fspath(self._uri), "written"):
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._temporary.open("xb", buffering=0)
        self._before, self._storages, self._after = _layout(self._samples, self._tensors, self._attributes)
        return self

    def write(self, *blocks: np.ndarray) -> None:
        """Append the next rows: one array [rows, *row_shape] a tensor, all with the same number of rows."""
        rows = len(blocks[0]) if blocks else 0
        self._check(blocks, rows)
        with self._named_errors():
            for stored, (dtype, row_shape), block in zip(self._storages, self._tensors, blocks, strict=True):
                row_bytes = math.prod(row_shape) * numpy_dtype(dtype).itemsize
                at = stored.data_at + self._written * row_bytes
                _store_rows(self._file, at, stored, block, max(1, _SLICE_BYTES // max(row_bytes, 1)))
        self._written += rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._named_errors():
                    self._finish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _named_errors(self) -> AbstractContextManager[None]:
        """A full disk is told by the file that the user named, or by the temporary one of a store's object."""
        return store.named_errors(str(self._target or self._temporary), "written")

    def _check(self, blocks: Sequence[np.ndarray], rows: int) -> None:
        where = os.fspath(self._uri)
        if len(blocks) != len(self._tensors):
            raise DatasetError(f"{where}: {len(blocks)} arrays were given for {len(self._tensors)} tensors.")
        if self._written + rows > self._samples:
            raise DatasetError(f"{where}: more than the announced {self._samples} samples were given.")
        for index, (block, (dtype, row_shape)) in enumerate(zip(blocks, self._tensors, strict=True)):
            if block.dtype != numpy_dtype(dtype) or block.shape != (rows, *row_shape):
                raise DatasetError(
                    f"{where}: tensor {index} takes {dtype} rows of shape {list(row_shape)}, {rows} of them as in "
                    f"tensor 0, not {block.dtype} {list(block.shape)}."
                )

    def _finish(self) -> None:
        if self._written != self._samples:
            raise DatasetError(
                f"{os.fspath(self._uri)}: {self._written} of the announced {self._samples} samples were given; "
                "nothing was written."
            )
        entries = [*self._before, *self._storages, *self._after]
        for stored in entries:
            stored.write(self._file)
        # buffered, as zipfile takes each write for whole, and one of a raw file to a full disk may be a part
        with self._temporary.open("r+b") as directory, zipfile.ZipFile(directory, "w") as archive:
            archive.filelist += [stored.info for stored in entries]  # they are written when the archive is closed
            archive.start_dir, archive.comment = entries[-1].end, self._note
        os.fsync(self._file.fileno())
        if self._target is None:
            store.copy_in(self._temporary, self._uri)
        else:
            self._temporary.replace(self._target)


def _layout(
    samples: int, tensors: Sequence[tuple[str, tuple[int, ...]]], attributes: Sequence[str]
) -> tuple[list[_Stored], list[_Stored], list[_Stored]]:
    """Constant entries before the storages, the storages, and constant entries after them, as torch orders them."""
    shaped = [(dtype, (samples, *row_shape)) for dtype, row_shape in tensors]
    before: list[_Stored] = []
    end = 0
    for name, data in (
        ("data.pkl", dataset_pickle(shaped, attributes)),
        (".format_version", b"1"),
        (".storage_alignment", str(_ALIGNMENT).encode()),
        ("byteorder", sys.byteorder.encode()),
    ):
        before.append(_Stored(name, end, len(data), data))
        end = before[-1].end
    storages: list[_Stored] = []
    for index, (dtype, shape) in enumerate(shaped):
        storages.append(_Stored(f"data/{index}", end, math.prod(shape) * numpy_dtype(dtype).itemsize))
        end = storages[-1].end
    return before, storages, [_Stored("version", end, 2, b"3\n")]


def _store_rows(file: BinaryIO, at: int, stored: _Stored, block: np.ndarray, rows_at_once: int) -> None:
    for first in range(0, len(block), rows_at_once):
        # a copy of a slice at most, where the block is not contiguous
        data = np.ascontiguousarray(block[first : first + rows_at_once]).reshape(-1).view(np.uint8).data
        stored.info.CRC = zlib.crc32(data, stored.info.CRC)
        _write_at(file, at, data)
        at += len(data)


def _write_at(file: BinaryIO, at: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(file.fileno(), rest, at)
        at, rest = at + count, rest[count:]


def write_tensorfile(
    uri: store.StrPath,
    arrays: Sequence[np.ndarray],
    *,
    note: str = "",
    attributes: Sequence[str] = (),
) -> None:
    """Write `torch.save(TensorDataset(*arrays))`; all arrays have the samples as their first dimension.

    torch reads it with `weights_only=True` (`TensorDataset` allowed) and without. Atomic; `DatasetError` for
    arrays that are no dataset.
    """
    where = os.fspath(uri)
    if not arrays or any(array.ndim == 0 or len(array) != len(arrays[0]) for array in arrays):
        raise DatasetError(f"{where}: a dataset is one or more arrays with the same number of samples.")
    tensors = [(array.dtype.name, array.shape[1:]) for array in arrays]
    native = [array.astype(array.dtype.newbyteorder("="), copy=False) for array in arrays]
    with TensorFileWriter(uri, len(arrays[0]), tensors, note=note, attributes=attributes) as writer:
        writer.write(*native)
