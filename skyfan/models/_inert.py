"""Reads a pickled PyTorch object as data: no class is imported, nothing that the file names is called.

A pickle is a small program. Of its instructions, those that make an object of a class and fill in its
attributes are followed with an empty stand-in class; calls are followed only for the few functions that
rebuild tensors and containers, which are ours. Any other call is refused by name before it happens.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never, cast

from skyfan.errors import ModelError
from skyfan.formats.torch._unpickle import ALLOWED, Call, InertDict, RestrictedUnpickler, spelled

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


class _InertMeta(type):
    """Makes a call of a stand-in class an error: only object creation without a call is inert."""

    refusal: str

    def __call__(cls, *_args: object, **_kwargs: object) -> Never:
        raise ModelError(cls.refusal)


class Inert(metaclass=_InertMeta):
    """An object of a class that was not imported; `state` holds its pickled attributes and items."""

    path = ""
    refusal = ""
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


def _recorded(*args: object) -> tuple[object, ...]:
    return args


def _new_dict(*_args: object) -> InertDict:
    return InertDict()


# Calls that are written down as data instead of being made: nothing about a model's weights depends on them.
_RECORDED_CALLS = (
    ("_codecs", "encode"),
    ("functools", "partial"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("torch", "device"),
)
_MODEL_GLOBALS: Mapping[tuple[str, str], object] = {
    **{name: found for name, found in ALLOWED.items() if name[0] not in ("copyreg", "torch.utils.data.dataset")},
    ("builtins", "set"): Call(set),
    ("collections", "defaultdict"): Call(_new_dict),
    **dict.fromkeys(_RECORDED_CALLS, Call(_recorded)),
}


class ModelUnpickler(RestrictedUnpickler):
    """Unpickler that makes a stand-in of every class of a pickled model."""

    allowed = _MODEL_GLOBALS

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(data, where, ModelError)
        self._classes: dict[str, type[Inert]] = {}

    def unknown(self, module: str, name: str) -> type[Inert]:
        """A stand-in class; should the file call it instead of making an object of it, that is refused."""
        path = f"{module}.{name}"
        if path not in self._classes:
            refusal = (
                f"{self._where} would run {spelled(module, name)} when loaded, so it was not loaded; "
                "if you trust where it is from, save the model's state_dict() there and use that."
            )
            made = _InertMeta(name, (Inert,), {"path": path, "refusal": refusal})
            self._classes[path] = cast("type[Inert]", made)
        return self._classes[path]


@dataclass(frozen=True)
class InertFile:
    """The object tree of a `torch.save` file and its archive, from which storages are read."""

    tree: object
    archive: zipfile.ZipFile
    folder: str
    where: str

    def storage(self, key: str) -> bytes:
        """The bytes of one storage, checked against their CRC."""
        return read_entry(self.archive, f"{self.folder}data/{key}", self.where)


def open_archive(data: bytes, where: str) -> zipfile.ZipFile:
    """The ZIP archive of a torch file; `ModelError` for empty, truncated, legacy or other files."""
    if not data:
        raise ModelError(f"{where} is empty.")
    if data.startswith(LEGACY_MAGIC) or data[:1] == b"\x80":
        raise ModelError(
            f"{where} is a bare pickle or of the format before torch 1.6; load it where it was made and save it "
            "again with a newer torch.save."
        )
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        kind = "is truncated or damaged" if data.startswith(b"PK") else "is not a model file"
        raise ModelError(f"{where} {kind}: {error}.") from error


def read_entry(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """The bytes of one stored entry, checked against its CRC."""
    try:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"{where} is a compressed archive; torch.save writes uncompressed ones.")
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError) as error:
        raise ModelError(f"{where} is damaged: its entry {name} cannot be read ({error}).") from error


def load_inert(data: bytes, where: str) -> InertFile:
    """What `torch.save` wrote, with tensors as references and everything else as data."""
    archive = open_archive(data, where)
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ModelError(f"{where} is a ZIP archive but holds nothing that torch.save wrote.")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise ModelError(
            f"{where} is a TorchScript archive, which holds code; export the model with torch.export.save "
            "to a .pt2 file."
        )
    if f"{folder}byteorder" in names and read_entry(archive, f"{folder}byteorder", where) != b"little":
        raise ModelError(f"{where} was written on a big-endian machine; save it again on a little-endian one.")
    tree = ModelUnpickler(read_entry(archive, pickles[0], where), where).tree()
    return InertFile(tree, archive, folder, where)
