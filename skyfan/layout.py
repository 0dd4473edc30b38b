"""Where the rows of a dataset file lie, as plain values that a plan can carry."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from skyfan.dtypes import DTYPES, STRING, as_dtype, is_stored_dtype, numpy_dtype
from skyfan.errors import DatasetError
from skyfan.validation import Frozen

MAX_DIMENSIONS = 32
MAX_NOTE = 500
"""Characters of what a dataset file says of itself."""
MAX_LEFT_OUT = 20
# Of a string of a library's file, for plans: how long it is, only reading it tells.
_STRING_BYTES = 16


def _known_dtype(name: str) -> str:
    if name not in DTYPES and name != STRING:
        raise ValueError(f"{name[:40]!r} is not a dtype that can be read")
    return name


def _known_stored_dtype(name: str) -> str:
    if not is_stored_dtype(name):
        raise ValueError(f"{name[:40]!r} is not a dtype that can be stored")
    return name


# 2**62: so that no sum of two is beyond the 64-bit integers of numpy and of the wire.
NonNegative = Annotated[int, Field(ge=0, lt=2**62)]
"""A number of bytes or samples, or an offset among them."""
Sizes = Annotated[tuple[NonNegative, ...], Field(max_length=MAX_DIMENSIONS)]


@dataclass(frozen=True, slots=True)
class StoredForm:
    """How rows lie in the file where that is not how they are read.

    They are stored as `row_shape` of `dtype` (`S8`, `U8`: text of fixed length). Read are the `bands` of dimension 0,
    all if none is named, the `crop` (height, width) in the middle of the last two dimensions, and
    stored · `scale` + `zero`; `null` is NaN. Whole numbers that stay whole are taken modulo their size, as FITS
    stores unsigned ones (FITS 4.0, section 5.2.5).
    """

    dtype: Annotated[str, AfterValidator(_known_stored_dtype)]
    row_shape: Sizes
    scale: FiniteFloat = 1.0
    zero: int | FiniteFloat = 0
    null: int | None = None
    bands: Sizes = ()
    crop: tuple[NonNegative, NonNegative] | None = None

    @property
    def read_shape(self) -> tuple[int, ...]:
        """Shape of one sample as it is read; `ValueError` where bands or crop are not inside what is stored."""
        shape = self.row_shape
        if self.bands:
            if not shape or max(self.bands) >= shape[0]:
                raise ValueError(f"bands {list(self.bands)} are not all in {list(shape)}")
            shape = (len(self.bands), *shape[1:])
        if self.crop:
            if len(shape) < 2 or any(kept > size for kept, size in zip(self.crop, shape[-2:], strict=True)):
                raise ValueError(f"a crop of {list(self.crop)} is not inside {list(shape)}")
            shape = (*shape[:-2], *self.crop)
        return shape

    def values(self, stored: np.ndarray, dtype: str) -> np.ndarray:
        """Stored rows [N, *row_shape] as they are read."""
        if self.bands:
            stored = stored[:, list(self.bands)]
        if self.crop:
            height, width = self.crop
            top, left = (stored.shape[-2] - height) // 2, (stored.shape[-1] - width) // 2
            stored = stored[..., top : top + height, left : left + width]
        if dtype == STRING:
            return _texts(stored)
        wanted = numpy_dtype(dtype)
        if wanted.kind in "iu" and stored.dtype.kind in "iu" and stored.itemsize == wanted.itemsize:
            unsigned = np.dtype(f"u{wanted.itemsize}")
            zero = unsigned.type(int(self.zero) % 2 ** (8 * wanted.itemsize))
            whole: np.ndarray = (np.ascontiguousarray(stored).view(unsigned) + zero).view(wanted)
            return whole
        values = stored.astype(wanted)
        if self.scale != 1:
            values *= wanted.type(self.scale)
        if self.zero:
            values += wanted.type(self.zero)
        if self.null is not None:
            values[stored == self.null] = np.nan
        return values


def _texts(stored: np.ndarray) -> np.ndarray:
    """Text of fixed length without the blanks or zeros that fill it, as numpy's strings."""
    return np.strings.rstrip(np.char.decode(stored, "utf-8", "replace") if stored.dtype.kind == "S" else stored)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One column of a file: row i of dimension 0 is bytes [offset + i·stride, offset + i·stride + row_bytes).

    `shape` includes the samples, and it and `dtype` are those that are read; `stored`, where given, is what lies in
    the file. `order` lists the stored row's dimensions from slowest to fastest in memory (`(0, 1, 2)` for contiguous,
    `(1, 2, 0)` for channels_last); `byteorder` is `little` or `big`. `stride_bytes` is the distance of rows where
    others lie between them. `crc32` is the checksum that the file has of exactly these rows, where it has one.

    With a `storage` other than `bytes`, rows are not byte ranges: that format reads them, under the name `source`.
    With a `uri`, rows lie in that file, a catalogue's, and not in the one of the layout; the column called `validity`
    is then 0 where there is no value.
    """

    name: str
    dtype: Annotated[str, AfterValidator(_known_dtype)]
    shape: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=MAX_DIMENSIONS)]
    offset_bytes: NonNegative
    order: Annotated[tuple[int, ...], Field(max_length=MAX_DIMENSIONS)]
    byteorder: Literal["little", "big"] = "little"
    crc32: int | None = None
    stride_bytes: NonNegative | None = None
    storage: Literal["bytes", "hdf5", "parquet"] = "bytes"
    source: str = ""
    stored: StoredForm | None = None
    uri: str = ""
    validity: str = ""

    @property
    def samples(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.shape[1:]

    @property
    def stored_row_shape(self) -> tuple[int, ...]:
        """Shape of one sample as it lies in the file."""
        return self.stored.row_shape if self.stored else self.row_shape

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        dtype = self.stored.dtype if self.stored else self.dtype
        return _STRING_BYTES if dtype == STRING else numpy_dtype(dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample as stored, others that lie between rows left out."""
        return math.prod(self.stored_row_shape) * self.itemsize

    @property
    def distance_bytes(self) -> int:
        """From the first byte of a row to that of the next."""
        return self.row_bytes if self.stride_bytes is None else self.stride_bytes

    @property
    def end_bytes(self) -> int:
        """First byte after the last row; where there is none, the offset."""
        if not self.samples:
            return self.offset_bytes
        return self.offset_bytes + (self.samples - 1) * self.distance_bytes + self.row_bytes

    def byte_range(self, start: int, stop: int) -> tuple[int, int]:
        """The file's bytes that hold rows [start, stop), with all that lies between them.

        Raises:
            DatasetError: the tensor has no such rows.
        """
        if not 0 <= start <= stop <= self.samples:
            raise DatasetError(f"tensor {self.name!r} has rows 0 to {self.samples}, not [{start}, {stop}).")
        first = self.offset_bytes + start * self.distance_bytes
        return first, first if start == stop else first + (stop - start - 1) * self.distance_bytes + self.row_bytes

    def rows(self, data: np.ndarray, count: int) -> np.ndarray:
        """Flat uint8 `data` of `count` whole rows as an array [count, *row_shape], where it can be without a copy.

        Foreign byte order is swapped in place, so `data` must be writable and be given once.
        """
        shape = self.stored_row_shape
        flat = as_dtype(data, self.stored.dtype if self.stored else self.dtype, self.byteorder)
        return self.from_file(flat.reshape(count, *(shape[axis] for axis in self.order)))

    def from_file(self, rows: np.ndarray) -> np.ndarray:
        """Rows [count, …] with the dimensions as they lie in the file, as they are read: [count, *row_shape]."""
        stored = rows.transpose(0, *(1 + self.order.index(axis) for axis in range(len(self.order))))
        return self.stored.values(stored, self.dtype) if self.stored else stored


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One named output of a model: an array [B, *row_shape] float32 for B samples."""

    name: str
    row_shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Values a sample."""
        return math.prod(self.row_shape)


@dataclass(frozen=True, slots=True)
class RowsChecksum:
    """The CRC-32 of rows [start, stop) of one tensor of the file with this identity, as stored."""

    identity: str
    tensor: str
    start: int
    stop: int
    crc32: int


class FileLayout(Frozen):
    """One dataset file: where it is, which version of it was read, and where its columns' rows lie.

    `etag` names the version; reads that carry it fail once the file has changed. `identity` names the content: it is
    equal for copies, and empty in plans from before there were identities. `format` is the module of `skyfan.formats`
    that opened it. `note` is what the file itself says of its data, such as that it is simulated;
    `left_out` names the first of what it holds beside these columns, which is not read.
    """

    uri: str
    etag: str
    size_bytes: NonNegative
    samples: NonNegative
    tensors: tuple[TensorSpec, ...]
    identity: str = ""
    format: str = "torch"
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""
    left_out: Annotated[tuple[str, ...], Field(max_length=MAX_LEFT_OUT)] = ()

    @model_validator(mode="after")
    def _lies_within_the_file(self) -> Self:
        """A layout comes over the wire too: a rank reads what it says, and allocates by it."""
        for tensor in self.tensors:
            if tensor.samples != self.samples:
                raise ValueError(f"tensor {tensor.name!r} has {tensor.samples} samples, the file {self.samples}")
            if sorted(tensor.order) != list(range(len(tensor.stored_row_shape))):
                raise ValueError(f"tensor {tensor.name!r} has the order {list(tensor.order)} for {tensor.row_shape}")
            if tensor.samples and not tensor.row_bytes:
                raise ValueError(f"the rows of tensor {tensor.name!r} hold no values")
            if tensor.stored and tensor.stored.read_shape != tensor.row_shape:
                raise ValueError(f"tensor {tensor.name!r} is not read from {tensor.stored.row_shape}")
            if tensor.distance_bytes < tensor.row_bytes:
                raise ValueError(f"tensor {tensor.name!r} has rows that overlap")
            if tensor.storage == "bytes" and not tensor.uri and self.samples and tensor.end_bytes > self.size_bytes:
                raise ValueError(f"tensor {tensor.name!r} ends after the file's {self.size_bytes} bytes")
        return self

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample over all tensors."""
        return sum(tensor.row_bytes for tensor in self.tensors)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names in the file's order."""
        return tuple(tensor.name for tensor in self.tensors)

    @property
    def validities(self) -> dict[str, str]:
        """Column → the column that tells where it has values, for those that have one."""
        return {tensor.name: tensor.validity for tensor in self.tensors if tensor.validity}

    def tensor(self, name: str) -> TensorSpec:
        """The tensor called `name`.

        Raises:
            DatasetError: there is none; the sentence lists those that there are.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise DatasetError(f"{self.uri} has no tensor {name!r}; it holds {', '.join(self.names)}.")
