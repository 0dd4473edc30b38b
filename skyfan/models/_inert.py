"""Reads a pickled PyTorch object as data, and the ZIP archive that it lies in.

What is in the pickle becomes tensors by reference and inert stand-ins, see `skyfan.formats.torch.unpickler`: no
class is imported, nothing that the file names is called.
"""

import io
import zipfile
from dataclasses import dataclass

from skyfan.errors import ModelError
from skyfan.formats.torch.unpickler import MAX_PICKLE_BYTES, load_tree
from skyfan.formats.zipfiles import ARCHIVE_ERRORS, Directory, is_plain
from skyfan.models.exporting.command import EXPORT_COMMAND

_REMEDY = ", so it was not loaded; if you trust where it is from, save the model's state_dict() there and use that."
# torch.jit.load runs what is in the archive: for the user to do, with a file of their own.
_EXPORT_SCRIPTED = (
    'if it is yours, save its weights (torch.save(torch.jit.load("FILE").state_dict(), "weights.pt")) and run '
    f"{EXPORT_COMMAND.format(weights='weights.pt')}"
)


@dataclass(frozen=True)
class InertFile:
    """The object tree of a `torch.save` file and its archive, from which storages are read."""

    tree: object
    archive: zipfile.ZipFile
    folder: str
    size_bytes: int
    where: str

    def storage(self, key: str) -> bytes:
        """The bytes of one storage, checked against their CRC."""
        return read_entry(self.archive, f"{self.folder}data/{key}", self.where)


def open_archive(data: bytes, where: str) -> zipfile.ZipFile:
    """The ZIP archive of a torch file; `ModelError` for empty, truncated, legacy or other files."""
    if not data:
        raise ModelError(f"{where} is empty.")
    if data[:1] == b"\x80":
        raise ModelError(
            f"{where} is a bare pickle or of the format before torch 1.6; load it where it was made and save it "
            "again with a newer torch.save."
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except ARCHIVE_ERRORS as error:
        kind = "is truncated or damaged" if data.startswith(b"PK") else "is not a model file"
        raise ModelError(f"{where} {kind}: {error}.") from error
    if any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist()):
        raise ModelError(f"{where} is a TorchScript archive, which holds code and is not loaded; {_EXPORT_SCRIPTED}.")
    if not all(map(is_plain, archive.infolist())):
        raise ModelError(f"{where} is a compressed or encrypted archive; torch.save writes neither.")
    entries = Directory(archive.infolist(), archive.start_dir, archive.comment)
    if entries.misplaced() is not None or len(set(archive.namelist())) < len(entries.entries):
        raise ModelError(f"{where} is truncated or damaged: its entries overlap, or two have one name.")
    return archive


def read_entry(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """The bytes of one stored entry, checked against its CRC."""
    try:
        return archive.read(name)
    except ARCHIVE_ERRORS as error:
        raise ModelError(f"{where} is damaged: its entry {name!r} cannot be read ({error}).") from error


def load_inert(data: bytes, where: str) -> InertFile:
    """What `torch.save` wrote, with tensors as references and everything else as data."""
    archive = open_archive(data, where)
    names = archive.namelist()
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ModelError(f"{where} is a ZIP archive but holds nothing that torch.save wrote.")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and read_entry(archive, f"{folder}byteorder", where) != b"little":
        raise ModelError(f"{where} was written on a big-endian machine; save it again on a little-endian one.")
    if archive.getinfo(pickles[0]).file_size > MAX_PICKLE_BYTES:
        raise ModelError(f"{where} has a data.pkl of more than {MAX_PICKLE_BYTES >> 20} MiB.")
    tree = load_tree(read_entry(archive, pickles[0], where), where, ModelError, _REMEDY)
    return InertFile(tree, archive, folder, len(data), where)
