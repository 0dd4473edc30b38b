"""`.npz` as `numpy.savez` writes it: stored `.npy` entries, so that rows are byte ranges of the archive."""

import io
import struct
import zipfile
from typing import Any

from skyfan import store
from skyfan.formats import npy
from skyfan.formats.base import MAX_COLUMNS, layout, refusal
from skyfan.formats.identity import zip_identity
from skyfan.formats.notes import as_note
from skyfan.formats.zipfiles import ARCHIVE_ERRORS, is_plain
from skyfan.layout import FileLayout, TensorSpec

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_TAIL_BYTES = 64 * 2**10


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns by the names of the arrays.

    Raises:
        DatasetError: it is no such archive, is compressed, or its arrays do not have equally many rows.
    """
    info = store.head(uri)
    entries, comment = _entries(info)
    columns: list[TensorSpec] = []
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < position:
            raise refusal(info.uri, f"is damaged: its entry {entry.filename} overlaps another")
        columns += _columns(info, entry)
        position = entry.header_offset + _LOCAL_HEADER.size + entry.file_size
    identity = zip_identity((entry.filename, entry.file_size, entry.CRC) for entry in entries)
    return layout(info, "npz", columns, identity=identity, note=as_note(comment))


def _entries(info: store.ObjectInfo) -> tuple[list[zipfile.ZipInfo], bytes]:
    file: Any = io.BufferedReader(store.RangeFile(info), _TAIL_BYTES)
    try:
        with zipfile.ZipFile(file) as archive:
            entries, comment = archive.infolist(), archive.comment
    except (*ARCHIVE_ERRORS, OSError) as error:
        raise refusal(info.uri, "is not a .npz file, or is damaged or truncated; copy it again") from error
    if len(entries) > MAX_COLUMNS:
        raise refusal(info.uri, f"has {len(entries)} arrays; at most {MAX_COLUMNS} are read")
    return entries, comment


def _columns(info: store.ObjectInfo, entry: zipfile.ZipInfo) -> list[TensorSpec]:
    name = entry.filename
    if not name.endswith(".npy"):
        raise refusal(info.uri, f"is a ZIP archive, but not one of numpy.savez: it holds {name[:60]!r}")
    if not is_plain(entry):
        raise refusal(
            info.uri,
            f"is compressed (entry {name[:60]}), so that its rows cannot be read one by one; save it again with "
            "numpy.savez, or as chunked HDF5 or Parquet",
        )
    start = entry.header_offset
    end = min(info.size_bytes, start + _LOCAL_HEADER.size + 2**17 + npy.MAX_HEADER_BYTES)
    head = store.read_range(info.uri, start, end, etag=info.etag) if start < end else b""
    if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\x03\x04"):
        raise refusal(info.uri, f"is damaged: its entry {name[:60]} does not lie where the directory says")
    name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(head)[-2:]
    data_at = _LOCAL_HEADER.size + name_bytes + extra_bytes
    found = npy.columns(
        info.uri, name.removesuffix(".npy"), head[data_at : data_at + npy.MAX_HEADER_BYTES], start + data_at
    )
    if any(spec.end_bytes > start + data_at + entry.file_size for spec in found):
        raise refusal(info.uri, f"is damaged: its array {name[:60]} is larger than its entry")
    return found
