"""What a pickle's objects become: plain values, and stand-ins that hold data and do nothing.

None of them is callable by the file, and none compares or hashes by what it holds, so that no nesting and no
crafted value costs more than its own size.
"""

from dataclasses import dataclass, field
from typing import Any

from skyfan.formats.torch.unpickler.errors import Malformed
from skyfan.formats.torch.unpickler.limits import MAX_KEY_INTEGER, MAX_NAME_CHARACTERS
from skyfan.plain_text import printable

UNTYPED = "untyped"
"""dtype of a storage that is bytes only; the tensor names the dtype."""

_FAMILIAR_MODULES = {"posix": "os", "nt": "os"}


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


@dataclass(frozen=True, slots=True, eq=False)
class DtypeName:
    """Stands for `torch.float32` and its like, and for a typed storage class."""

    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class ClassRef:
    """The name of a class or function that was not imported."""

    path: str

    @property
    def spelled(self) -> str:
        """`posix.system (os.system)`: the name in the file, and the one that people know."""
        module, _, name = self.path.rpartition(".")
        familiar = _FAMILIAR_MODULES.get(module)
        return printable(f"{self.path} ({familiar}.{name})" if familiar else self.path)


@dataclass(frozen=True, slots=True, eq=False)
class InertObject:
    """An object of a class that was not imported: its pickled attributes, and the arguments of its creation."""

    path: str
    arguments: tuple[object, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """A value of a known harmless kind that is not read, such as a numpy array; `kind` names it."""

    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class OpaqueKey:
    """A dictionary's key that is neither a string nor a small number; `kind` names what it is."""

    kind: str


def describe(value: object) -> str:
    """What a value is, for a sentence: `a numpy array`, `a str`, `an object of omegaconf.DictConfig`."""
    if isinstance(value, Opaque | OpaqueKey):
        return value.kind
    if isinstance(value, InertObject):
        return f"an object of {printable(value.path)}"
    if isinstance(value, ClassRef):
        return f"a reference to {value.spelled}"
    if isinstance(value, DtypeName):
        return f"the dtype {value.dtype}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def as_key(value: object) -> object:
    """A value as a dictionary's key: strings and small integers as they are, all else as an `OpaqueKey`.

    Hashing a tuple recurses as deep as it nests, and the hashes of floats and long integers can be made to collide.
    """
    kind = type(value)
    if kind is str:
        if len(value) > MAX_NAME_CHARACTERS:  # type: ignore[arg-type]
            raise Malformed(f"it names something by more than {MAX_NAME_CHARACTERS} characters")
        return value
    if value is None or kind is bool or (kind is int and abs(value) < MAX_KEY_INTEGER):  # type: ignore[arg-type]
        return value
    return OpaqueKey(describe(value))
