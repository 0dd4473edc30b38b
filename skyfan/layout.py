"""Where the rows of a dataset file lie, as plain values that a plan can carry."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from skyfan.dtypes import DTYPES, as_dtype, numpy_dtype
from skyfan.errors import DatasetError

MAX_DIMENSIONS = 32


def _known_dtype(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"{name[:40]!r} is not a dtype that can be read")
    return name


# 2**62: so that no sum of two is beyond the 64-bit integers of numpy and of the wire.
NonNegative = Annotated[int, Field(ge=0, lt=2**62)]
"""A number of bytes or samples, or a place among them."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file: row i of dimension 0 is bytes [offset + i·row_bytes, offset + (i+1)·row_bytes).

    `shape` includes the samples; `order` lists the row's dimensions from slowest to fastest in memory
    (`(0, 1, 2)` for contiguous, `(1, 2, 0)` for channels_last); `byteorder` is `little` or `big`. `crc32` is the
    checksum that the file has of exactly these rows, where it has one.
    """

    name: str
    dtype: Annotated[str, AfterValidator(_known_dtype)]
    shape: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=MAX_DIMENSIONS)]
    offset_bytes: NonNegative
    order: Annotated[tuple[int, ...], Field(max_length=MAX_DIMENSIONS)]
    byteorder: Literal["little", "big"] = "little"
    crc32: int | None = None

    @property
    def samples(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.shape[1:]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return numpy_dtype(self.dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return math.prod(self.row_shape) * self.itemsize

    def byte_range(self, start: int, stop: int) -> tuple[int, int]:
        """The file's bytes that hold rows [start, stop).

        Raises:
            DatasetError: the tensor has no such rows.
        """
        if not 0 <= start <= stop <= self.samples:
            raise DatasetError(f"tensor {self.name!r} has rows 0 to {self.samples}, not [{start}, {stop}).")
        return self.offset_bytes + start * self.row_bytes, self.offset_bytes + stop * self.row_bytes

    def rows(self, data: np.ndarray, count: int) -> np.ndarray:
        """Flat uint8 `data` of `count` whole rows as an array [count, *row_shape] without a copy.

        Foreign byte order is swapped in place, so `data` must be writable and be given once.
        """
        flat = as_dtype(data, self.dtype, self.byteorder)
        stored = flat.reshape(count, *(self.row_shape[axis] for axis in self.order))
        return stored.transpose(0, *(1 + self.order.index(axis) for axis in range(len(self.order))))


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


class FileLayout(BaseModel):
    """One dataset file: where it is, which version of it was read, and where its tensors' rows lie.

    `etag` names the version; reads that carry it fail once the file has changed. `identity` names the content: it is
    equal for copies, and empty in plans from before there were identities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    uri: str
    etag: str
    size_bytes: NonNegative
    samples: NonNegative
    tensors: tuple[TensorSpec, ...]
    identity: str = ""

    @model_validator(mode="after")
    def _lies_within_the_file(self) -> Self:
        """A layout comes over the wire too: a rank reads what it says, and allocates by it."""
        for tensor in self.tensors:
            if tensor.samples != self.samples:
                raise ValueError(f"tensor {tensor.name!r} has {tensor.samples} samples, the file {self.samples}")
            if sorted(tensor.order) != list(range(len(tensor.row_shape))):
                raise ValueError(f"tensor {tensor.name!r} has the order {list(tensor.order)} for {tensor.row_shape}")
            if tensor.samples and not tensor.row_bytes:
                raise ValueError(f"the rows of tensor {tensor.name!r} hold no values")
            if tensor.offset_bytes + tensor.samples * tensor.row_bytes > self.size_bytes:
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

    def tensor(self, name: str) -> TensorSpec:
        """The tensor called `name`.

        Raises:
            DatasetError: there is none; the sentence lists those that there are.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise DatasetError(f"{self.uri} has no tensor {name!r}; it holds {', '.join(self.names)}.")
