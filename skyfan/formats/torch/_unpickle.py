"""Reads the object tree of a `.pt` file without importing or running anything that the file names.

Every global that the pickle asks for is looked up in a table of inert stand-ins. A name outside the table
goes to `RestrictedUnpickler.unknown`, which refuses it; a subclass may return a placeholder instead.
The stand-ins reject state (the pickle's BUILD), so that one file cannot change what the next one gets.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from skyfan.dtypes import (
    DTYPES,
    STORAGE_DTYPES,
    TORCH_ALIASES,
    UNSUPPORTED_DTYPES,
    UNSUPPORTED_STORAGES,
)
from skyfan.errors import BadInput, DatasetError

MAX_PICKLE_BYTES = 16 * 2**20
UNTYPED = "untyped"
"""dtype of a storage that is bytes only; the tensor names the dtype."""


class Malformed(ValueError):
    """The pickle is not one that torch writes; carries the reason only."""


class Unsupported(Malformed):
    """The pickle is sound, but holds a kind of tensor that Skyfan does not read; says what to do."""


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage by its key in the archive; `numel` elements of `dtype` (bytes where it is `UNTYPED`)."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as a view of a storage; `offset` and `stride` count elements of `dtype`."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> NoReturn:
        raise Malformed("it gives state to a tensor")


class TensorDatasetRef:
    """Stands for `torch.utils.data.TensorDataset`."""

    __slots__ = ("tensors",)
    tensors: object

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or "tensors" not in state:
            raise Malformed("its TensorDataset has no tensors")
        self.tensors = state["tensors"]


class InertDict(dict[Any, Any]):
    """Stands for `OrderedDict`; attributes that were pickled with it (`_metadata`) are dropped."""

    def __setstate__(self, state: object) -> None: ...


class Stateless:
    """A stand-in for a function or constant of torch: takes no state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise Malformed("it gives state to a function or a constant")


class Call(Stateless):
    """Stands for a function: runs ours instead."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)


class DtypeName(Stateless):
    """Stands for `torch.float32` and its like, and for a typed storage class."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class TensorType(Stateless):
    """Stands for `torch.Tensor` or `Parameter` where it is an argument."""

    __slots__ = ()


def _integers(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(v) is int and 0 <= v < 2**62 for v in values):
        raise Malformed(f"a tensor's {what} is not a tuple of numbers")
    return tuple(values)


def _rebuild(storage: object, offset: object, shape: object, stride: object, *rest: object) -> TensorRef:
    """`torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`: rest is requires_grad, hooks, metadata."""
    if not isinstance(storage, StorageRef):
        raise Malformed("a tensor has no storage")
    if storage.dtype == UNTYPED:
        raise Malformed("a tensor has neither a dtype nor a typed storage")
    return _tensor(storage, storage.dtype, offset, shape, stride, rest[2] if len(rest) > 2 else None)


def _rebuild_v3(
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    _grad: object,
    _hooks: object,
    dtype: object,
    *rest: object,
) -> TensorRef:
    """`torch._utils._rebuild_tensor_v3`: the dtype is an argument, the storage is bytes."""
    if not isinstance(storage, StorageRef) or not isinstance(dtype, DtypeName):
        raise Malformed("a tensor has no storage or no dtype")
    return _tensor(storage, dtype.dtype, offset, shape, stride, rest[0] if rest else None)


def _tensor(
    storage: StorageRef, dtype: str, offset: object, shape: object, stride: object, metadata: object
) -> TensorRef:
    if dtype not in DTYPES:
        raise Unsupported(f"it holds a tensor of dtype {dtype}, which Skyfan cannot read; convert it before saving")
    if isinstance(metadata, dict) and any(metadata.get(bit) for bit in ("conj", "neg")):
        raise Unsupported("it holds a lazily conjugated or negated tensor; save it after .resolve_conj().resolve_neg()")
    (first,) = _integers((offset,), "offset")
    sizes, strides = _integers(shape, "shape"), _integers(stride, "stride")
    if len(sizes) != len(strides) or len(sizes) > 64:
        raise Malformed("a tensor's shape and stride differ in length")
    return TensorRef(storage, dtype, first, sizes, strides)


def _parameter(data: object, *_rest: object) -> object:
    if not isinstance(data, TensorRef):
        raise Malformed("a Parameter has no tensor")
    return data


def _from_type(function: object, _new_type: object, args: object, _state: object) -> object:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with Python attributes, which are dropped."""
    if not isinstance(function, Call) or not isinstance(args, tuple) or not isinstance(_new_type, TensorType):
        raise Malformed("a tensor of a subclass is not rebuilt by torch's own functions")
    return function(*args)


def _reconstruct(kind: object, *_rest: object) -> object:
    """`copyreg._reconstructor`: how protocols 0 and 1 make an object."""
    if kind is not TensorDatasetRef:
        raise Malformed("it makes an object of a kind that has no constructor")
    return TensorDatasetRef()


def _tuple(values: object = ()) -> tuple[int, ...]:
    return _integers(values, "size")


def _table() -> dict[tuple[str, str], object]:
    table: dict[tuple[str, str], object] = {
        ("collections", "OrderedDict"): InertDict,
        ("copyreg", "_reconstructor"): Call(_reconstruct),
        ("builtins", "object"): TensorType(),
        ("torch", "Size"): Call(_tuple),
        ("torch", "Tensor"): TensorType(),
        ("torch._tensor", "Tensor"): TensorType(),
        ("torch.nn.parameter", "Parameter"): TensorType(),
        ("torch._tensor", "_rebuild_from_type_v2"): Call(_from_type),
        ("torch._utils", "_rebuild_tensor"): Call(_rebuild),
        ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild),
        ("torch._utils", "_rebuild_tensor_v3"): Call(_rebuild_v3),
        ("torch._utils", "_rebuild_parameter"): Call(_parameter),
        ("torch._utils", "_rebuild_parameter_with_state"): Call(_parameter),
        ("torch.storage", "UntypedStorage"): DtypeName(UNTYPED),
        ("torch", "UntypedStorage"): DtypeName(UNTYPED),
        ("torch.utils.data.dataset", "TensorDataset"): TensorDatasetRef,
    }
    for names in (STORAGE_DTYPES, UNSUPPORTED_STORAGES):
        table |= {("torch", storage): DtypeName(dtype) for storage, dtype in names.items()}
    table |= {("torch", name): DtypeName(name) for name in DTYPES | UNSUPPORTED_DTYPES}
    table |= {("torch", alias): DtypeName(name) for alias, name in TORCH_ALIASES.items()}
    return table


ALLOWED: Mapping[tuple[str, str], object] = _table()
"""(module, name) → stand-in, for everything that a file of tensors may name."""

_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_FAMILIAR = {"posix": "os", "nt": "os"}
_HINTS = {
    "_rebuild_sparse_tensor": "it holds a sparse tensor; save tensor.to_dense()",
    "_rebuild_nested_tensor": "it holds a nested tensor; save a padded one",
    "_rebuild_qtensor": "it holds a quantized tensor; save tensor.dequantize()",
    "_rebuild_meta_tensor_no_storage": "it holds a tensor on the meta device, which has no values",
}


def spelled(module: str, name: str) -> str:
    """`posix.system (os.system)`: the name in the file, and the one that people know."""
    familiar = _FAMILIAR.get(module)
    return f"{module}.{name} ({familiar}.{name})" if familiar else f"{module}.{name}"


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles into stand-ins only. `where` names the file; `error` is the class that refusals have."""

    allowed: Mapping[tuple[str, str], object] = ALLOWED
    accepts = "tensors, TensorDataset, and tuples, lists and dicts of tensors"
    remedy = "Save the tensors themselves: torch.save(TensorDataset(image, magnitude, redshift), FILE)."

    def __init__(self, data: bytes, where: str, error: type[BadInput] = DatasetError) -> None:
        super().__init__(io.BytesIO(data))
        self._data = data
        self._where = where
        self._error = error

    def tree(self) -> object:
        """The object tree, made of stand-ins, builtin containers, numbers and strings."""
        try:
            _check_opcodes(self._data)
            return self.load()
        except BadInput:
            raise
        except Unsupported as error:
            raise self._error(f"{self._where}: {error}.") from error
        except Malformed as error:
            raise self._error(f"{self._where} is damaged or was not written by torch.save: {error}.") from error
        except Exception as error:  # a hostile pickle can make the unpickler raise anything
            raise self._error(
                f"{self._where} is damaged: its data.pkl cannot be read ({type(error).__name__})."
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; never an import."""
        module = _OLD_MODULES.get(module, module)
        found = self.allowed.get((module, name))
        return self.unknown(module, name) if found is None else found

    def unknown(self, module: str, name: str) -> Any:
        """What a name outside the table becomes: here a refusal."""
        if module == "torch._utils" and name in _HINTS:
            raise Unsupported(_HINTS[name])
        raise self._error(
            f"{self._where} would run {spelled(module, name)} when loaded; "
            f"Skyfan opens {self.accepts} only. {self.remedy}"
        )

    def persistent_load(self, pid: object) -> StorageRef:
        """A storage's place in the archive: ("storage", class, key, device, number of elements)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Malformed("it refers to something that is not a storage")
        _, kind, key, _device, numel = pid[:5]
        if not isinstance(kind, DtypeName) or not isinstance(key, str):
            raise Malformed("a storage has no known type or key")
        (count,) = _integers((numel,), "storage size")
        return StorageRef(key, kind.dtype, count)


def _check_opcodes(data: bytes) -> None:
    """Refuse what the stand-ins cannot: extension codes, which the unpickler may resolve from its own cache, and
    memo indexes beyond the data's length, for which it would allocate a table of that size.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise Malformed(f"its data.pkl has more than {MAX_PICKLE_BYTES >> 20} MiB")
    for opcode, argument, _position in pickletools.genops(data):
        if opcode.name in ("EXT1", "EXT2", "EXT4"):
            raise Malformed("its data.pkl uses extension codes")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(str(argument)) > len(data):
            raise Malformed("its data.pkl has an impossible memo index")
