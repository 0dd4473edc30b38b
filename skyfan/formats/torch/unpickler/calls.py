"""What the names in a pickle stand for, and the few calls that are followed: by functions of ours, on data."""

from collections.abc import Callable, Mapping

from skyfan.dtypes import (
    DTYPES,
    STORAGE_DTYPES,
    TORCH_ALIASES,
    UNSUPPORTED_DTYPES,
    UNSUPPORTED_STORAGES,
)
from skyfan.formats.torch.unpickler import tensors
from skyfan.formats.torch.unpickler.errors import Malformed, RefusedCall, Unsupported
from skyfan.formats.torch.unpickler.limits import MAX_NAME_CHARACTERS
from skyfan.formats.torch.unpickler.pickle_machine import PickleMachine
from skyfan.formats.torch.unpickler.values import UNTYPED, ClassRef, DtypeName, InertObject, Opaque, as_key

_Call = Callable[[PickleMachine, tuple[object, ...]], object]

_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def _dtypes() -> dict[str, DtypeName]:
    names = {"torch.storage.UntypedStorage": UNTYPED, "torch.UntypedStorage": UNTYPED}
    for storages in (STORAGE_DTYPES, UNSUPPORTED_STORAGES):
        names |= {f"torch.{storage}": dtype for storage, dtype in storages.items()}
    names |= {f"torch.{name}": name for name in DTYPES | UNSUPPORTED_DTYPES}
    names |= {f"torch.{alias}": name for alias, name in TORCH_ALIASES.items()}
    return {path: DtypeName(dtype) for path, dtype in names.items()}


_DTYPES = _dtypes()


def named(module: object, name: object) -> ClassRef | DtypeName:
    """What a global of the pickle stands for; never an import."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise Malformed("it names a class by something that is not text")
    if len(module) + len(name) > MAX_NAME_CHARACTERS:
        raise Malformed(f"it names a class by more than {MAX_NAME_CHARACTERS} characters")
    path = f"{_OLD_MODULES.get(module, module)}.{name}"
    return _DTYPES.get(path) or ClassRef(path)


def call(machine: PickleMachine, function: object, arguments: object) -> object:
    """The result of the pickle's call of `function`.

    Raises:
        RefusedCall: it is none of the calls that are followed.
    """
    if not isinstance(function, ClassRef) or not isinstance(arguments, tuple):
        raise Malformed("it calls something that is not a function")
    if function.path in _UNSUPPORTED_CALLS:
        raise Unsupported(_UNSUPPORTED_CALLS[function.path])
    followed = _CALLS.get(function.path)
    if followed is None:
        raise RefusedCall(function.spelled)
    try:
        return followed(machine, arguments)
    except TypeError as error:  # the wrong number of arguments for one of the functions of this package
        raise Malformed(f"it calls {function.path} with arguments that it does not take") from error


def new_object(kind: object, arguments: object) -> InertObject | Opaque:
    """An object of a class, made without a call: an empty stand-in."""
    if not isinstance(kind, ClassRef) or not isinstance(arguments, tuple):
        raise Malformed("it makes an object of something that is not a class")
    return Opaque(_OPAQUE_CALLS[kind.path]) if kind.path in _OPAQUE_CALLS else InertObject(kind.path, arguments)


def _reconstructor(_machine: PickleMachine, arguments: tuple[object, ...]) -> InertObject | Opaque:
    """`copyreg._reconstructor(class, base, state of the base)`: how protocols 0 and 1 make an object."""
    return new_object(arguments[0] if arguments else None, ())


def _dictionary(_machine: PickleMachine, arguments: tuple[object, ...]) -> dict[object, object]:
    """`OrderedDict()` and `defaultdict(factory)`, whose items follow as instructions."""
    if any(isinstance(argument, list | tuple | dict) for argument in arguments):
        raise Malformed("it makes a dictionary of something that is not one")
    return {}


def _set(machine: PickleMachine, arguments: tuple[object, ...]) -> set[object]:
    (values,) = arguments or ((),)
    if not isinstance(values, list | tuple):
        raise Malformed("it makes a set of something that is not a list")
    machine.charge_items(len(values))
    return {as_key(value) for value in values}


def _data(function: Callable[..., object]) -> _Call:
    return lambda _machine, arguments: function(*arguments)


def _opaque(kind: str) -> _Call:
    value = Opaque(kind)
    return lambda _machine, _arguments: value


_ARRAY, _NUMBER, _NUMPY_DTYPE = "a numpy array", "a numpy number", "a numpy dtype"
_GENERATOR, _PATH, _TIME = "the state of a random generator", "a path", "a date or time"
_OPAQUE_CALLS: Mapping[str, str] = {
    **dict.fromkeys((f"{core}.multiarray._reconstruct" for core in ("numpy.core", "numpy._core")), _ARRAY),
    **dict.fromkeys((f"{core}.numeric._frombuffer" for core in ("numpy.core", "numpy._core")), _ARRAY),
    **dict.fromkeys((f"{core}.multiarray.scalar" for core in ("numpy.core", "numpy._core")), _NUMBER),
    "numpy.dtype": _NUMPY_DTYPE,
    **dict.fromkeys(
        (f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "generator", "bit_generator")), _GENERATOR
    ),
    "_codecs.encode": "bytes",
    "builtins.bytearray": "bytes",
    "builtins.complex": "a complex number",
    "builtins.frozenset": "a set",
    "builtins.range": "a range",
    "builtins.slice": "a slice",
    "collections.Counter": "a Counter",
    "collections.deque": "a deque",
    "functools.partial": "a functools.partial",
    "torch.device": "a device",
    "torch.serialization._get_layout": "a layout",
    **dict.fromkeys(
        (f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in (
            "Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")), _PATH,
    ),
    **dict.fromkeys((f"datetime.{kind}" for kind in ("date", "time", "datetime", "timedelta", "timezone")), _TIME),
    "decimal.Decimal": "a decimal number",
    "fractions.Fraction": "a fraction",
}  # fmt: skip
"""Calls that are not made: their result is a value of a known kind that nothing of a dataset or model depends on."""

_UNSUPPORTED_CALLS: Mapping[str, str] = {
    "torch._utils._rebuild_sparse_tensor": "it holds a sparse tensor; save tensor.to_dense()",
    "torch._utils._rebuild_nested_tensor": "it holds a nested tensor; save a padded one",
    "torch._utils._rebuild_qtensor": "it holds a quantized tensor; save tensor.dequantize()",
    "torch._utils._rebuild_meta_tensor_no_storage": "it holds a tensor on the meta device, which has no values",
}

_CALLS: Mapping[str, _Call] = {
    **{path: _data(rebuild) for path, rebuild in tensors.REBUILDS.items()},
    "torch._tensor._rebuild_from_type_v2": _data(tensors.from_type),
    "torch.Size": _data(tensors.size),
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    "builtins.dict": _dictionary,
    "builtins.set": _set,
    "copyreg._reconstructor": _reconstructor,
    **{path: _opaque(kind) for path, kind in _OPAQUE_CALLS.items()},
}
"""Path of a function → what is done when the pickle calls it."""
