"""The functions of torch that rebuild a tensor, as functions that only note where its values lie."""

from collections.abc import Callable, Mapping

from skyfan.dtypes import DTYPES
from skyfan.formats.torch.unpickler.errors import Malformed, Unsupported
from skyfan.formats.torch.unpickler.limits import MAX_DIMENSIONS, MAX_NAME_CHARACTERS, MAX_TENSOR_INTEGER
from skyfan.formats.torch.unpickler.values import UNTYPED, ClassRef, DtypeName, StorageRef, TensorRef


def storage(pid: object) -> StorageRef:
    """A storage's persistent ID, ("storage", class, key, device, number of elements), as a reference."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise Malformed("it refers to something that is not a storage")
    _, kind, key, _device, numel = pid[:5]
    if not isinstance(kind, DtypeName) or not isinstance(key, str) or len(key) > MAX_NAME_CHARACTERS:
        raise Malformed("a storage has no known type or key")
    (count,) = integers((numel,), "storage size")
    return StorageRef(key, kind.dtype, count)


def integers(values: object, what: str) -> tuple[int, ...]:
    """Sizes, strides or offsets, checked to be some."""
    if not isinstance(values, tuple | list):
        raise Malformed(f"a tensor's {what} is not a tuple of numbers")
    if len(values) > MAX_DIMENSIONS:
        raise Malformed(f"a tensor has more than {MAX_DIMENSIONS} dimensions")
    if not all(type(v) is int and 0 <= v < MAX_TENSOR_INTEGER for v in values):
        raise Malformed(f"a tensor's {what} is not a tuple of numbers from 0 to 2**62")
    return tuple(values)


def size(values: object = ()) -> tuple[int, ...]:
    """`torch.Size`."""
    return integers(values, "size")


def rebuild_v2(
    stored: object,
    offset: object,
    shape: object,
    stride: object,
    _grad: object = None,
    _hooks: object = None,
    metadata: object = None,
) -> TensorRef:
    """`torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`: the storage has the dtype."""
    if not isinstance(stored, StorageRef):
        raise Malformed("a tensor has no storage")
    if stored.dtype == UNTYPED:
        raise Malformed("a tensor has neither a dtype nor a typed storage")
    return _tensor(stored, stored.dtype, offset, shape, stride, metadata)


def rebuild_v3(
    stored: object,
    offset: object,
    shape: object,
    stride: object,
    _grad: object,
    _hooks: object,
    dtype: object,
    metadata: object = None,
) -> TensorRef:
    """`torch._utils._rebuild_tensor_v3`: the dtype is an argument, the storage is bytes."""
    if not isinstance(stored, StorageRef) or not isinstance(dtype, DtypeName):
        raise Malformed("a tensor has no storage or no dtype")
    return _tensor(stored, dtype.dtype, offset, shape, stride, metadata)


def parameter(data: object, *_rest: object) -> TensorRef:
    """`torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`: the tensor itself."""
    if not isinstance(data, TensorRef):
        raise Malformed("a Parameter has no tensor")
    return data


def from_type(function: object, new_type: object, args: object, _state: object) -> object:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with Python attributes, which are dropped."""
    rebuild = REBUILDS.get(function.path) if isinstance(function, ClassRef) else None
    if rebuild is None or not isinstance(args, tuple) or not isinstance(new_type, ClassRef):
        raise Malformed("a tensor of a subclass is not rebuilt by torch's own functions")
    return rebuild(*args)


REBUILDS: Mapping[str, Callable[..., TensorRef]] = {
    "torch._utils._rebuild_tensor": rebuild_v2,
    "torch._utils._rebuild_tensor_v2": rebuild_v2,
    "torch._utils._rebuild_tensor_v3": rebuild_v3,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
}


def _tensor(
    stored: StorageRef, dtype: str, offset: object, shape: object, stride: object, metadata: object
) -> TensorRef:
    if dtype not in DTYPES:
        raise Unsupported(f"it holds a tensor of dtype {dtype}, which Skyfan cannot read; convert it before saving")
    if isinstance(metadata, dict) and any(metadata.get(bit) for bit in ("conj", "neg")):
        raise Unsupported("it holds a lazily conjugated or negated tensor; save it after .resolve_conj().resolve_neg()")
    (first,) = integers((offset,), "offset")
    sizes, strides = integers(shape, "shape"), integers(stride, "stride")
    if len(sizes) != len(strides):
        raise Malformed("a tensor's shape and stride differ in length")
    return TensorRef(stored, dtype, first, sizes, strides)
