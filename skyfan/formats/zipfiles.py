"""What ZIP archives of others can be, and what the standard library raises for those that lie."""

import struct
import zipfile

# NotImplementedError is a RuntimeError, as is "encrypted"; KeyError is a LookupError.
ARCHIVE_ERRORS = (zipfile.BadZipFile, RuntimeError, ValueError, OverflowError, EOFError, LookupError, struct.error)
_ENCRYPTED = 1


def is_encrypted(entry: zipfile.ZipInfo) -> bool:
    """Whether the entry's flags say so."""
    return bool(entry.flag_bits & _ENCRYPTED)


def is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether the entry's bytes lie in the archive as they are: neither compressed nor encrypted."""
    return entry.compress_type == zipfile.ZIP_STORED and not is_encrypted(entry)
