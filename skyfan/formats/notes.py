"""What a file says of its data, such as that pixels are simulated; each command that writes a dataset carries it on.

It lies where a format keeps text about a file: the comment of a ZIP archive (`.pt`, `.npz`), `skyfan.note` in the
key-value metadata of Parquet and `.safetensors`, the attribute `skyfan.note` of an HDF5 file's root. A run tells it as
"about the data", and its report in the first lines.
"""

from collections.abc import Iterable

from skyfan.layout import MAX_NOTE
from skyfan.plain_text import printable

NOTE_KEY = "skyfan.note"
MAX_NOTE_BYTES = 4 * MAX_NOTE


def as_note(found: object) -> str:
    """Text of a file, printable and no longer than `MAX_NOTE`; empty for what is no text."""
    text = found[:MAX_NOTE_BYTES].decode("utf-8", "replace") if isinstance(found, bytes) else found
    return printable(text)[:MAX_NOTE] if isinstance(text, str) else ""


def joined(notes: Iterable[str]) -> str:
    """One note for a file that is made of several others: each of theirs once, as far as they fit."""
    return as_note(" ".join(dict.fromkeys(filter(None, notes))))
