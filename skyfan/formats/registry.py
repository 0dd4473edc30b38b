"""Which format a file has: by the suffix of its name, or by its first bytes."""

import importlib
from typing import cast

from skyfan import store
from skyfan.formats.base import Format, LibraryFormat, refusal
from skyfan.layout import FileLayout

FORMATS = {
    ".pt": "torch",
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".parquet": "parquet",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".fits": "fits",
    ".fit": "fits",
}
"""Suffix → module of `skyfan.formats`."""
_MAGIC = {
    b"\x93NUMPY": "npy",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"PAR1": "parquet",
    b"SIMPLE  =": "fits",
}
_OTHERS = {
    ".csv": "is a table of text; read it with pandas.read_csv and write it with DataFrame.to_parquet",
    ".txt": "is text; write its table as Parquet",
    ".zip": "is a ZIP archive; unpack it and name the folder or a file in it",
    ".tar": "is an archive; unpack it and name the folder or a file in it",
    ".gz": "is compressed as a whole; unpack it with gunzip",
    ".pkl": "is a pickle, which can run code when it is opened; save the arrays with numpy.savez",
}
"""What to do with files that are no datasets, by suffix."""


def is_data(uri: str) -> bool:
    """Whether a file of this name is taken for data in a folder."""
    return suffix_of(uri) in FORMATS


def suffix_of(uri: str) -> str:
    """The suffix of a file's name in small letters; empty where there is none."""
    _, dot, suffix = uri.rsplit("/", 1)[-1].lower().rpartition(".")
    return f"{dot}{suffix}"


def open_file(uri: store.StrPath) -> FileLayout:
    """Names, shapes and offsets of a file's columns, from its metadata alone.

    Raises:
        DatasetError: it is no dataset of a known format; the sentence tells the way on where there is one.
        LocationError: it cannot be read.
    """
    text = str(uri)
    known = FORMATS.get(suffix_of(text))
    if known is None:
        if suffix_of(text) in _OTHERS:
            raise refusal(store.head(uri).uri, _OTHERS[suffix_of(text)])
        known = _by_first_bytes(uri)
    return format_of(known).open_file(uri)


def format_of(name: str) -> Format:
    """The format of this name; its library is imported now."""
    return cast("Format", importlib.import_module(f"skyfan.formats.{name}"))


def library_format(storage: str) -> LibraryFormat:
    """The format that reads rows of this `TensorSpec.storage`."""
    return cast("LibraryFormat", format_of(storage))


def _by_first_bytes(uri: store.StrPath) -> str:
    info = store.head(uri)
    head = store.read_range(info.uri, 0, min(16, info.size_bytes), etag=info.etag)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "torch")
