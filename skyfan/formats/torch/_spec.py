"""Which bytes of a `.pt` file hold a tensor's rows, and what the reference system's positions are called."""

import math
from collections.abc import Mapping
from typing import Literal

from skyfan.columns import IN_TRAINING
from skyfan.dtypes import numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.torch.unpickler import TensorRef
from skyfan.layout import FileLayout, TensorSpec


def spec_of(name: str, ref: TensorRef, storage_at: int, byteorder: Literal["little", "big"], where: str) -> TensorSpec:
    """The spec of a tensor whose storage begins at byte `storage_at`; refuses rows that are not blocks."""
    if not ref.shape:
        raise DatasetError(f"{where}: tensor {name!r} is a single number; a dataset's first dimension is the samples.")
    if ref.shape[0] and not all(ref.shape):
        raise DatasetError(
            f"{where}: the rows of tensor {name!r} (shape {list(ref.shape)}) hold no values; leave it out."
        )
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


def attribute_names(file: FileLayout) -> tuple[str, ...] | None:
    """Which of a dataset's columns are attributes in a copy of it as a TensorDataset, which knows positions only.

    None where reading the copy would not give the names of the source again.
    """
    attributes = file.names[-1:] if file.names[-1] == IN_TRAINING else ()
    items = file.tensors[: len(file.tensors) - len(attributes)]
    positions = {str(position): spec.shape for position, spec in enumerate(items)}
    again = reference_names(positions)
    return attributes if [one.name for one in items] == [again.get(name, name) for name in positions] else None


def reference_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Position → name for a dataset in the reference system's layout; empty for any other.

    The reference system saves `TensorDataset(image [N, C, H, W], magnitude [N, C], redshift [N])`
    (AI-for-Astronomy, arXiv 2501.06249); a dataset without redshift keeps the other two names.
    """
    positions = [name for name in shapes if name != IN_TRAINING]
    if positions not in (["0", "1"], ["0", "1", "2"]):
        return {}
    image, magnitude = shapes["0"], shapes["1"]
    if len(image) != 4 or magnitude != image[:2]:
        return {}
    if "2" in shapes and shapes["2"] != image[:1]:
        return {}
    return dict(zip(positions, ("image", "magnitude", "redshift"), strict=False))
