"""Reads a pickled PyTorch object as data: no class is imported, nothing that the file names is called.

A pickle is a small program. Of its instructions, those that make an object of a class and fill in its
attributes are followed with an empty stand-in class; calls are followed only for the few functions that
rebuild tensors and containers, which are ours here. Any other call is refused by name before it happens.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never, cast

from skyfan.errors import ModelError

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# What a damaged or hostile pickle makes the C unpickler raise; each becomes one `ModelError`.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)

# Names of storage classes, and what their values are called in torch and NumPy.
_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
# Calls that are written down as data instead of being made: nothing about a model's weights depends on them.
_RECORDED_CALLS = frozenset(
    {
        "_codecs.encode",
        "functools.partial",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "torch.device",
        "torch.Size",
        "torch.storage.TypedStorage",
    }
)
_PUBLIC_NAMES = {"posix": "os", "nt": "os", "__builtin__": "builtins"}


class _InertMeta(type):
    """Makes a call of a stand-in class an error: only object creation without a call is inert."""

    path: str

    def __call__(cls, *_args: object, **_kwargs: object) -> Never:
        module, _, name = cls.path.rpartition(".")
        public = f" ({_PUBLIC_NAMES[module]}.{name})" if module in _PUBLIC_NAMES else ""
        raise ModelError(
            f"the file would run {cls.path}{public} when loaded, so it was not loaded; "
            "if you trust where it is from, save its state_dict() instead"
        )


class Inert(metaclass=_InertMeta):
    """An object of a class that was not imported; `state` holds its pickled attributes and items."""

    path = "skyfan.models.Inert"
    state: dict[Any, Any]

    def __new__(cls, *_args: object, **_kwargs: object) -> "Inert":
        made = object.__new__(cls)
        made.__dict__["state"] = {}
        return made

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state.update(part)

    def __setitem__(self, key: object, value: object) -> None:
        self.state[key] = value


class _Sealed:
    """Something of ours that a pickle gets hold of but may not change."""

    def __setstate__(self, state: object) -> Never:
        raise ModelError("the file would change the loader itself when loaded, so it was not loaded")


@dataclass(frozen=True)
class _Dtype(_Sealed):
    name: str


@dataclass(frozen=True)
class Storage(_Sealed):
    """The bytes of one storage entry; `dtype` is what its pickled class says."""

    key: str
    data: bytes
    dtype: str


@dataclass(frozen=True)
class StoredTensor(_Sealed):
    """Where a tensor lies in its storage; offset, size and stride count values of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Call(_Sealed):
    function: Callable[..., object]

    def __call__(self, *args: object) -> object:
        return self.function(*args)


def _recorded(*args: object) -> tuple[object, ...]:
    return args


def _rebuild_tensor(storage: Storage, offset: int, size: Any, stride: Any, *_rest: object) -> StoredTensor:
    return StoredTensor(storage, storage.dtype, offset, tuple(size), tuple(stride))


def _rebuild_tensor_v3(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> StoredTensor:
    return StoredTensor(storage, rest[2].name, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: StoredTensor, *_rest: object) -> StoredTensor:
    return data


def _new_dict(*_args: object) -> dict[object, object]:
    return {}


_CALLS: dict[str, Callable[..., object]] = {
    "__builtin__.set": set,
    "builtins.set": set,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _new_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    **dict.fromkeys(_RECORDED_CALLS, _recorded),
}


class InertUnpickler(pickle.Unpickler):
    """Unpickler of a torch archive that resolves every name to data or to a stand-in class."""

    def __init__(self, data: bytes, read_storage: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(data))
        self._read_storage = read_storage
        self._storages: dict[str, bytes] = {}
        self._classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> object:
        """Never imports: a rebuilding function of ours, a dtype, or a stand-in class of that name."""
        path = f"{module}.{name}"
        if path in _CALLS:
            return _Call(_CALLS[path])
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return _Dtype(_STORAGE_DTYPES[name])
        if module == "torch" and name in _STORAGE_DTYPES.values():
            return _Dtype(name)
        if path not in self._classes:
            self._classes[path] = cast("type[Inert]", _InertMeta(name, (Inert,), {"path": path}))
        return self._classes[path]

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, `("storage", type, key, location, count)`, as the bytes of its archive entry."""
        if not (isinstance(pid, tuple) and len(pid) >= 3 and pid[0] == "storage"):
            raise ModelError("the file refers to something outside itself that is no tensor storage")
        kind, key = pid[1], str(pid[2])
        if not isinstance(kind, _Dtype):
            raise ModelError(f"the file holds a tensor storage of an unknown type, {getattr(kind, 'path', kind)}")
        if key not in self._storages:
            self._storages[key] = self._read_storage(key)
        return Storage(key, self._storages[key], kind.name)


def open_archive(data: bytes, where: str) -> zipfile.ZipFile:
    """The ZIP archive of a torch file; `ModelError` for empty, truncated, legacy or other files."""
    if not data:
        raise ModelError(f"{where} is empty")
    if data.startswith(LEGACY_MAGIC) or data[:1] == b"\x80":
        raise ModelError(
            f"{where} was saved in the format of torch before 1.6 or as a bare pickle; load it where it was "
            "made and save it again with torch.save"
        )
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        kind = "is truncated" if data.startswith(b"PK") else "is not a model file"
        raise ModelError(f"{where} {kind}: {error}") from error


def read_entry(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """The bytes of one stored entry, checked against its CRC."""
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"{where} is a compressed archive; torch.save writes uncompressed ones")
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, struct.error, ValueError) as error:
        raise ModelError(f"{where} is damaged: the entry {name} cannot be read ({error})") from error


def load_inert(data: bytes, where: str) -> object:
    """The object that `torch.save` wrote, with tensors as tensors and everything else as data."""
    with open_archive(data, where) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ModelError(f"{where} is a ZIP archive but holds no torch.save data")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise ModelError(
                f"{where} is a TorchScript archive, which holds code; export the model with torch.export.save "
                "to a .pt2 file"
            )
        if f"{folder}byteorder" in names and read_entry(archive, f"{folder}byteorder", where) != b"little":
            raise ModelError(f"{where} was written on a big-endian machine; save it again on a little-endian one")

        def read_storage(key: str) -> bytes:
            return read_entry(archive, f"{folder}data/{key}", where)

        try:
            return InertUnpickler(read_entry(archive, pickles[0], where), read_storage).load()
        except ModelError as error:
            raise ModelError(str(error) if where in str(error) else f"{where}: {error}") from error
        except _PICKLE_ERRORS as error:
            raise ModelError(f"{where} is damaged: its pickled data cannot be followed ({error})") from error
