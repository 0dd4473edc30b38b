"""The `data.pkl` of a TensorDataset, written opcode by opcode: what torch itself would write, without torch."""

import math
import struct
from collections.abc import Sequence

from skyfan.dtypes import STORAGE_DTYPES, numpy_dtype

_STORAGES = {dtype: storage for storage, dtype in STORAGE_DTYPES.items()}
_MARK, _TUPLE, _EMPTY_TUPLE, _REDUCE, _FALSE = b"(", b"t", b")", b"R", b"\x89"


def dataset_pickle(tensors: Sequence[tuple[str, tuple[int, ...]]], attributes: Sequence[str] = ()) -> bytes:
    """Protocol 2 pickle of `TensorDataset(*tensors)`, tensor i being (dtype, shape) and using storage `data/<i>`.

    The last tensors are attributes of the dataset under the names `attributes`: items of it do not have them.
    dtypes that have no typed storage class in torch are rebuilt from bytes, as torch does since 2.1.
    """
    rebuilt = [_tensor(str(key), dtype, shape) for key, (dtype, shape) in enumerate(tensors)]
    items = len(tensors) - len(attributes)
    return (
        b"\x80\x02"
        + _global("torch.utils.data.dataset", "TensorDataset")
        + _EMPTY_TUPLE
        + b"\x81}"
        + _text("tensors")
        + _MARK
        + b"".join(rebuilt[:items])
        + _TUPLE
        + b"s"
        + b"".join(_text(name) + one + b"s" for name, one in zip(attributes, rebuilt[items:], strict=True))
        + b"b."
    )


def _tensor(key: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    numel = math.prod(shape)
    typed = dtype in _STORAGES
    storage = _global("torch", _STORAGES[dtype]) if typed else _global("torch.storage", "UntypedStorage")
    length = numel if typed else numel * numpy_dtype(dtype).itemsize
    reference = _MARK + _text("storage") + storage + _text(key) + _text("cpu") + _integer(length) + _TUPLE + b"Q"
    hooks = _global("collections", "OrderedDict") + _EMPTY_TUPLE + _REDUCE
    view = _integer(0) + _integers(shape) + _integers(strides) + _FALSE + hooks
    function = "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3"
    last = b"" if typed else _global("torch", dtype)
    return _global("torch._utils", function) + _MARK + reference + view + last + _TUPLE + _REDUCE


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode("ascii")


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integers(values: Sequence[int]) -> bytes:
    return _MARK + b"".join(map(_integer, values)) + _TUPLE


def _integer(value: int) -> bytes:
    if value < 2**8:
        return b"K" + struct.pack("<B", value)
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
