"""ZIP archives of others: their directory by a small read or two, and what the library raises for those that lie."""

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from skyfan import store

# NotImplementedError is a RuntimeError, as is "encrypted"; KeyError is a LookupError.
ARCHIVE_ERRORS = (zipfile.BadZipFile, RuntimeError, ValueError, OverflowError, EOFError, LookupError, struct.error)
TAIL_BYTES = 2**16 + 21
"""The longest comment and the record before it: where an archive's directory is looked for."""
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_MAX_DIRECTORY_BYTES = 64 * 2**20
_ENCRYPTED = 1


def is_encrypted(entry: zipfile.ZipInfo) -> bool:
    """Whether the entry's flags mark it as encrypted."""
    return bool(entry.flag_bits & _ENCRYPTED)


def is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether the entry's bytes lie in the archive as they are: neither compressed nor encrypted."""
    return entry.compress_type == zipfile.ZIP_STORED and not is_encrypted(entry)


@dataclass(frozen=True)
class Directory:
    """The entries of an archive, the byte at which they end, and its comment."""

    entries: Sequence[zipfile.ZipInfo]
    end: int
    comment: bytes

    @cached_property
    def stops(self) -> dict[int, int]:
        """Where each entry begins → where the next one, or the directory, does."""
        starts = sorted(entry.header_offset for entry in self.entries)
        return dict(zip(starts, [*starts[1:], self.end], strict=False))

    def misplaced(self) -> zipfile.ZipInfo | None:
        """An entry that lies outside the file, overlaps another, or has two sizes; None: all are in order."""
        for entry in self.entries:
            ends = entry.header_offset + LOCAL_HEADER.size + entry.file_size
            two = len(self.stops) < len(self.entries) or entry.file_size != entry.compress_size
            if two or entry.header_offset < 0 or ends > self.stops[entry.header_offset]:
                return entry
        return None


def read_directory(info: store.ObjectInfo, tail: bytes, stats: store.ReadStats | None = None) -> Directory:
    """The directory of the archive `info`, whose last bytes are `tail`.

    Raises:
        ARCHIVE_ERRORS: it has none, or one that is damaged or beyond 64 MiB.
        LocationError: it cannot be read.
    """
    file: Any = _BoundedReads(info, stats, tail)
    with zipfile.ZipFile(file) as archive:
        return Directory(archive.infolist(), archive.start_dir, archive.comment)


class _BoundedReads(store.RangeFile):
    """So that no memory is taken for a directory that is said to be large."""

    def read(self, size: int = -1) -> bytes | None:
        if size > _MAX_DIRECTORY_BYTES:
            raise ValueError(f"a directory of {size} bytes")
        return super().read(size)


def data_offset(header: bytes) -> int | None:
    """Where an entry's data begin, counted from its local header, which begins with these bytes; None: it is none."""
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        return None
    name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(header)[-2:]
    return LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)
