"""The ZIP archive of a program: what is read of it, within which bounds, and the archive that is written instead."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from skyfan.formats.zipfiles import ARCHIVE_ERRORS, is_encrypted, is_plain
from skyfan.models.programs.fields import refuse, shown

GRAPH = "models/model.json"
FIRST_FORM = "serialized_exported_program.json"  # of torch 2.7 and older
MAX_ENTRIES = 20_000


def is_program(names: list[str]) -> bool:
    """Whether an archive's entries are those of an exported program."""
    inner = {name.partition("/")[2] for name in names}
    return bool(inner & {GRAPH, "archive_format"}) or FIRST_FORM in names


@dataclass(frozen=True)
class ProgramArchive:
    """The stored entries below the archive's one folder."""

    archive: zipfile.ZipFile
    folder: str
    sizes: Mapping[str, int]

    @classmethod
    def open(cls, data: bytes) -> "ProgramArchive":
        """Refuses what is no plain archive of one program: copies of a name, encryption, compression, overlaps."""
        try:
            archive = zipfile.ZipFile(io.BytesIO(data))
            entries = archive.infolist()
        except ARCHIVE_ERRORS as error:
            refuse(f"is truncated or damaged: {shown(error)}")
        names = [entry.filename for entry in entries]
        if FIRST_FORM in names:
            refuse("is of torch 2.7 or older, whose weights are pickled; export it with a newer torch")
        if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
            refuse(f"has {len(entries):,} entries, more than {MAX_ENTRIES:,} or two of one name")
        if any(is_encrypted(entry) for entry in entries):
            refuse("is encrypted")
        if not all(is_plain(entry) for entry in entries):
            refuse("is a compressed archive; torch.export.save writes uncompressed ones")
        if sum(entry.file_size for entry in entries) > len(data):
            refuse("is damaged: its entries are larger than the file")
        compiled = [name for name in names if "/data/aotinductor/" in name or name.endswith((".so", ".dll"))]
        if compiled:
            refuse(f"holds a compiled library ({shown(compiled[0])}); export with torch.export.save instead")
        folders = [name.removesuffix(GRAPH) for name in names if name.endswith(f"/{GRAPH}")]
        if len(folders) != 1:
            refuse(f"holds {len(folders) or 'no'} exported program{'s'[: len(folders)]} ({GRAPH})")
        return cls(archive, folders[0], {entry.filename: entry.file_size for entry in entries})

    def read(self, name: str) -> bytes:
        """The bytes of one entry, checked against their CRC."""
        try:
            return self.archive.read(f"{self.folder}{name}")
        except ARCHIVE_ERRORS as error:
            refuse(f"is damaged: its entry {name} cannot be read ({shown(error)})")


def write_archive(entries: Mapping[str, bytes]) -> bytes:
    """An archive as torch reads it: stored entries in one folder, in the order given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"program/{name}"), data)
    return buffer.getvalue()
