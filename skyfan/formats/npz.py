"""`.npz` as `numpy.savez` writes it: stored `.npy` entries, so that rows are byte ranges of the archive."""

import zipfile

from skyfan import store
from skyfan.formats import npy
from skyfan.formats.base import MAX_COLUMNS, layout, refusal
from skyfan.formats.identity import zip_identity
from skyfan.formats.notes import as_note
from skyfan.formats.zipfiles import (
    ARCHIVE_ERRORS,
    LOCAL_HEADER,
    TAIL_BYTES,
    data_offset,
    is_encrypted,
    is_plain,
    read_directory,
)
from skyfan.layout import FileLayout, TensorSpec


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns by the names of the arrays.

    Raises:
        DatasetError: it is no such archive, is compressed, or its arrays do not have equally many rows.
    """
    info, tail = store.read_tail(uri, TAIL_BYTES)
    try:
        directory = read_directory(info, tail)
    except ARCHIVE_ERRORS as error:
        raise refusal(info.uri, "is not a .npz file, or is damaged or truncated; copy it again") from error
    entries = sorted(directory.entries, key=lambda entry: entry.header_offset)
    if len(entries) > MAX_COLUMNS:
        raise refusal(info.uri, f"has {len(entries)} arrays; at most {MAX_COLUMNS} are read")
    for entry in entries:
        _check(info, entry)
    if (odd := directory.misplaced()) is not None:
        raise refusal(info.uri, f"is damaged: its entry {odd.filename[:60]} overlaps another, or the end")
    columns = [spec for entry in entries for spec in _columns(info, entry)]
    identity = zip_identity((entry.filename, entry.file_size, entry.CRC) for entry in directory.entries)
    return layout(info, "npz", columns, identity=identity, note=as_note(directory.comment))


def _check(info: store.ObjectInfo, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if not name.endswith(".npy"):
        raise refusal(info.uri, f"is a ZIP archive, but not one of numpy.savez: it holds {name[:60]!r}")
    if is_encrypted(entry):
        raise refusal(info.uri, f"is encrypted (entry {name[:60]}); save it again with numpy.savez")
    if not is_plain(entry):
        raise refusal(
            info.uri,
            f"is compressed (entry {name[:60]}), so that its rows cannot be read one by one; save it again with "
            "numpy.savez, or as chunked HDF5 or Parquet",
        )


def _columns(info: store.ObjectInfo, entry: zipfile.ZipInfo) -> list[TensorSpec]:
    name = entry.filename
    start = entry.header_offset
    end = min(info.size_bytes, start + LOCAL_HEADER.size + 2**17 + npy.MAX_HEADER_BYTES)
    head = store.read_range(info.uri, start, end, etag=info.etag)
    data_at = data_offset(head)
    if data_at is None:
        raise refusal(info.uri, f"is damaged: its entry {name[:60]} does not lie where the directory says")
    header = head[data_at : data_at + npy.MAX_HEADER_BYTES]
    found = npy.columns(info.uri, name.removesuffix(".npy"), header, start + data_at)
    if any(spec.end_bytes > start + data_at + entry.file_size for spec in found):
        raise refusal(info.uri, f"is damaged: its array {name[:60]} is larger than its entry")
    return found
