"""What a format is, and what formats share: layouts and columns checked as they are made."""

import math
import sys
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from skyfan import store
from skyfan.dtypes import STRING, is_stored_dtype
from skyfan.errors import DatasetError
from skyfan.formats.identity import content_identity
from skyfan.layout import MAX_DIMENSIONS, MAX_LEFT_OUT, FileLayout, StoredForm, TensorSpec
from skyfan.plain_text import printable

MAX_COLUMNS = 10_000
MAX_NAME_CHARACTERS = 200
# Of a library's file a few bytes can stand for many: so much of it is held decoded at once.
MAX_DECODED_BYTES = 512 * 2**20


class Format(Protocol):
    """A module of `skyfan.formats`: opens a file by its metadata, and nothing in it is executed."""

    def open_file(self, uri: store.StrPath) -> FileLayout:
        """Names, shapes and offsets of the file's columns.

        Raises:
            DatasetError: it is no such file, or not one that can be read by rows.
            LocationError: it cannot be read.
        """


class LibraryFormat(Format, Protocol):
    """A format whose rows are not byte ranges (`TensorSpec.storage`)."""

    def read_rows(
        self,
        uri: store.StrPath,
        specs: Sequence[TensorSpec],
        start: int,
        stop: int,
        etag: str | None,
        stats: store.ReadStats | None,
    ) -> dict[str, np.ndarray]:
        """Rows [start, stop): name → array [stop − start, *stored_row_shape] as it lies in the file.

        Raises:
            DatasetError: the file holds other rows than its metadata tells.
            store.PreconditionFailed: the file is no longer the version named by `etag`.
        """


def planned_version(uri: store.StrPath, etag: str | None) -> store.ObjectInfo:
    """What the store tells of the file now; `store.PreconditionFailed` unless that is the version `etag`."""
    info = store.head(uri)
    if etag is not None and info.etag != etag:
        raise store.PreconditionFailed(f"{info.uri} is no longer the version that was planned.")
    return info


def refusal(uri: str, reason: str) -> DatasetError:
    """The error with `reason` about this file; what came from the file is made fit for a terminal."""
    return DatasetError(printable(f"{uri} {reason}."))


def column(
    uri: str,
    name: str,
    dtype: np.dtype,
    shape: Sequence[int],
    offset_bytes: int = 0,
    *,
    stride_bytes: int | None = None,
    storage: Literal["bytes", "hdf5", "parquet"] = "bytes",
) -> TensorSpec:
    """The spec of a column whose stored elements numpy calls `dtype`; `shape` includes the samples.

    Raises:
        DatasetError: its name, type or shape is none that a dataset can have.
    """
    check_name(uri, name)
    if not shape:
        raise refusal(uri, f"has the single value {name!r}; a dataset's first dimension is the samples")
    if not all(shape[1:]) or len(shape) > MAX_DIMENSIONS or math.prod(shape) >= 2**62:
        raise refusal(uri, f"has a column {name!r} of shape {list(shape)[:40]}, which holds no rows that can be read")
    stored = None
    if dtype.kind in "SU" and len(shape) == 1:
        stored = StoredForm(f"{dtype.kind}{dtype.itemsize // (4 if dtype.kind == 'U' else 1)}", ())
    if not is_stored_dtype(stored.dtype if stored else dtype.name):
        what = {"O": "Python objects", "V": "records inside records"}.get(dtype.kind, printable(dtype.str))
        raise refusal(uri, f"has a column {name!r} of {what}; save it as numbers or text of fixed length")
    return TensorSpec(
        name=name,
        dtype=STRING if stored else dtype.name,
        shape=tuple(shape),
        offset_bytes=offset_bytes,
        order=tuple(range(len(shape) - 1)),
        byteorder="big" if dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big") else "little",
        stride_bytes=stride_bytes,
        storage=storage,
        stored=stored,
    )


def layout(
    info: store.ObjectInfo,
    form: str,
    columns: Sequence[TensorSpec],
    header: bytes = b"",
    identity: str | None = None,
    left_out: Sequence[str] = (),
    note: str = "",
) -> FileLayout:
    """The layout of a file with these columns; `identity` is the one that its format has, where it has one.

    `left_out`: what the file holds beside them, a phrase each; `note`: what it says of its data.

    Raises:
        DatasetError: it has no columns or rows, columns of several lengths, or columns that end after the file.
    """
    if not columns:
        raise refusal(info.uri, "has no column with samples that can be read")
    if len(columns) > MAX_COLUMNS:
        raise refusal(info.uri, f"has {len(columns)} columns; at most {MAX_COLUMNS} are read")
    counts = {spec.name: spec.samples for spec in columns}
    if len(counts) < len(columns):
        raise refusal(info.uri, "has two columns of one name")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:8])
        raise refusal(info.uri, f"has columns with different numbers of samples ({listed})")
    if not columns[0].samples:
        raise refusal(info.uri, "holds 0 samples")
    ends = [spec for spec in columns if spec.storage == "bytes" and spec.end_bytes > info.size_bytes]
    if ends:
        raise refusal(
            info.uri, f"is damaged or truncated: its column {ends[0].name!r} ends after the file; copy it again"
        )
    return FileLayout(
        uri=info.uri,
        etag=info.etag,
        size_bytes=info.size_bytes,
        samples=columns[0].samples,
        tensors=tuple(columns),
        identity=identity or content_identity(info, header),
        format=form,
        note=note,
        left_out=tuple(printable(phrase) for phrase in left_out[:MAX_LEFT_OUT]),
    )


def check_name(uri: str, name: str) -> None:
    """Refuses names that could not stand in plans, results and terminals."""
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable() or "=" in name:
        raise refusal(
            uri, f"names a column {name[:60]!r}; name columns by 1 to {MAX_NAME_CHARACTERS} printable characters"
        )
