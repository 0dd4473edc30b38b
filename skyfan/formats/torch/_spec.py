"""Where a tensor's rows lie in a file, as plain values that a plan can carry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skyfan.errors import DatasetError
from skyfan.formats.torch._dtypes import as_dtype, numpy_dtype
from skyfan.formats.torch._unpickle import TensorRef


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file: row i of dimension 0 is bytes [offset + i·row_bytes, offset + (i+1)·row_bytes).

    `shape` includes the samples; `order` lists the row's dimensions from slowest to fastest in memory
    (`(0, 1, 2)` for contiguous, `(1, 2, 0)` for channels_last); `byteorder` is `little` or `big`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    order: tuple[int, ...]
    byteorder: str = "little"

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
        """The file's bytes that hold rows [start, stop)."""
        if not 0 <= start <= stop <= self.samples:
            raise DatasetError(f"tensor {self.name!r} has rows 0 to {self.samples}, not [{start}, {stop}).")
        return self.offset_bytes + start * self.row_bytes, self.offset_bytes + stop * self.row_bytes

    def rows(self, data: np.ndarray, count: int) -> np.ndarray:
        """Flat uint8 `data` of `count` whole rows as an array [rows, *row_shape] without a copy.

        Foreign byte order is mended in place, so `data` must be writable and be given once.
        """
        flat = as_dtype(data, self.dtype, self.byteorder)
        stored = flat.reshape(count, *(self.row_shape[axis] for axis in self.order))
        return stored.transpose(0, *(1 + self.order.index(axis) for axis in range(len(self.order))))


def spec_of(name: str, ref: TensorRef, storage_at: int, byteorder: str, where: str) -> TensorSpec:
    """The spec of a tensor whose storage begins at byte `storage_at`; refuses rows that are not blocks."""
    if not ref.shape:
        raise DatasetError(f"{where}: tensor {name!r} is a single number; a dataset's first dimension is the samples.")
    order = row_order(ref.shape, ref.stride)
    if order is None:
        raise DatasetError(
            f"{where}: the rows of tensor {name!r} (shape {list(ref.shape)}, strides {list(ref.stride)}) are not "
            "contiguous blocks; save tensor.contiguous() instead."
        )
    offset_bytes = storage_at + ref.offset * numpy_dtype(ref.dtype).itemsize
    return TensorSpec(name, ref.dtype, ref.shape, offset_bytes, order, byteorder)


def row_order(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """The row's dimensions from slowest to fastest if rows are dense blocks one after another, else `None`."""
    row_shape, row_stride = shape[1:], stride[1:]
    order = tuple(
        sorted(range(len(row_shape)), key=lambda axis: -row_stride[axis] if row_shape[axis] > 1 else -math.inf)
    )
    expected = 1
    for axis in reversed(order):
        if row_shape[axis] > 1 and row_stride[axis] != expected:
            return None
        expected *= row_shape[axis]
    if shape[0] > 1 and expected and stride[0] != expected:
        return None
    return order


def reference_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Position → name for a dataset in the reference system's layout; empty for any other.

    The reference system saves `TensorDataset(image [N, C, H, W], magnitude [N, C], redshift [N])`
    (AI-for-Astronomy, arXiv 2501.06249); a dataset without redshift keeps the other two names.
    """
    positions = list(shapes)
    if positions not in (["0", "1"], ["0", "1", "2"]):
        return {}
    image, magnitude = shapes["0"], shapes["1"]
    if len(image) != 4 or magnitude != image[:2]:
        return {}
    if "2" in shapes and shapes["2"] != image[:1]:
        return {}
    return dict(zip(positions, ("image", "magnitude", "redshift"), strict=False))
