"""The ZIP container of a `.pt` file, read by a few small ranges: 64 KiB of tail, the directory, the pickle."""

import zipfile
from collections.abc import Iterable
from typing import Literal

from skyfan import store
from skyfan.errors import DatasetError
from skyfan.formats.base import refusal
from skyfan.formats.identity import content_identity, zip_identity
from skyfan.formats.notes import as_note
from skyfan.formats.torch.unpickler import MAX_PICKLE_BYTES
from skyfan.formats.zipfiles import ARCHIVE_ERRORS, LOCAL_HEADER, TAIL_BYTES, data_offset, is_plain, read_directory

_WINDOW_BYTES = 16 * 2**10


class Archive:
    """An opened `.pt` file: its directory and the bytes of its small entries.

    Names are without the top folder (`data.pkl`, `data/0`). `note` is the archive's comment, see `formats.notes`.

    Raises:
        DatasetError: it is no archive of torch.save, or one whose entries are packed or do not lie where it says.
        LocationError: it cannot be read.
    """

    def __init__(self, uri: store.StrPath, stats: store.ReadStats | None = None) -> None:
        self._stats = stats or store.ReadStats()
        self.info, tail = store.read_tail(uri, TAIL_BYTES, stats=self._stats)
        self._windows = [(self.info.size_bytes - len(tail), tail)]
        try:
            directory = read_directory(self.info, tail, self._stats)
        except ARCHIVE_ERRORS as error:
            raise self._not_a_zip() from error
        self.note = as_note(directory.comment)
        names = [entry.filename for entry in directory.entries]
        folder = self._top_folder(names)
        self.entries = {name.removeprefix(folder): one for name, one in zip(names, directory.entries, strict=True)}
        self._check(self.entries, len(names))
        self._stops = directory.stops
        if (odd := directory.misplaced()) is not None:
            raise self.refuse(f"is damaged or truncated: its entry {odd.filename[:60]} overlaps another, or the end")

    def identity(self) -> str:
        """What copies of this file have in common, and no other content has."""
        directory = ((name, entry.file_size, entry.CRC) for name, entry in self.entries.items())
        return zip_identity(directory) or content_identity(self.info)

    def refuse(self, reason: str) -> DatasetError:
        """The error with `reason` about this file."""
        return refusal(self.info.uri, reason)

    def read(self, name: str, limit_bytes: int = MAX_PICKLE_BYTES) -> bytes:
        """A small entry as a whole."""
        entry = self.entries.get(name)
        if entry is None:
            raise self.refuse(f"is incomplete: its entry {name} is missing")
        if entry.file_size > limit_bytes:
            raise self.refuse(f"has a {name} of {entry.file_size} bytes; at most {limit_bytes} are read")
        self._bytes(entry.header_offset, entry.header_offset + LOCAL_HEADER.size)
        start = self.data_offsets([name])[name]
        return self._bytes(start, start + entry.file_size)

    def byteorder(self) -> Literal["little", "big"]:
        """`little` or `big`; files from before torch 2.1 do not say and are little-endian."""
        if "byteorder" not in self.entries:
            return "little"
        order = self.read("byteorder", limit_bytes=64).decode("ascii", "replace").strip()
        if order not in ("little", "big"):
            raise self.refuse(f"has the unknown byte order {order!r}")
        return "big" if order == "big" else "little"

    def data_offsets(self, names: Iterable[str]) -> dict[str, int]:
        """First byte of each entry's data, from its local header; checks that the data is inside the file."""
        entries = {name: self.entries[name] for name in names}
        spans = [(entry.header_offset, entry.header_offset + LOCAL_HEADER.size) for entry in entries.values()]
        offsets = {}
        for (name, entry), header in zip(entries.items(), self._many(spans), strict=True):
            at = data_offset(header)
            if at is None or entry.header_offset + at + entry.file_size > self._stops[entry.header_offset]:
                raise self.refuse(f"is damaged: its entry {name} does not lie where the directory says")
            offsets[name] = entry.header_offset + at
        return offsets

    def _bytes(self, start: int, stop: int) -> bytes:
        found = self._cached(start, stop)
        if found is not None:
            return found
        # the pickle, the byte order and the first storage's header lie together: one request for all
        end = max(stop, min(start + _WINDOW_BYTES, self.info.size_bytes))
        window = store.read_range(self.info.uri, start, end, etag=self.info.etag, stats=self._stats)
        self._windows.append((start, window))
        return window[: stop - start]

    def _cached(self, start: int, stop: int) -> bytes | None:
        for window_start, window in self._windows:
            if window_start <= start and stop <= window_start + len(window):
                return window[start - window_start : stop - window_start]
        return None

    def _many(self, spans: list[tuple[int, int]]) -> list[bytes]:
        """Several small ranges, those not read yet by parallel requests."""
        far = [span for span in spans if self._cached(*span) is None]
        buffer = bytearray(sum(stop - start for start, stop in far))
        if far:
            store.read_into(self.info.uri, far, memoryview(buffer), etag=self.info.etag, stats=self._stats)
        rest = memoryview(buffer)
        found = []
        for start, stop in spans:
            data = self._cached(start, stop)
            if data is None:
                data, rest = bytes(rest[: stop - start]), rest[stop - start :]
            found.append(data)
        return found

    def _not_a_zip(self) -> DatasetError:
        head = self._bytes(0, min(4, self.info.size_bytes))
        if not head:
            return self.refuse("is empty (0 bytes)")
        if head == b"PK\x03\x04":
            return self.refuse("is truncated or damaged: its ZIP directory cannot be read; copy it again")
        if head[0] == 0x80:
            return self.refuse(
                "is in torch's old format from before 1.6, or a bare pickle; save it again with "
                "torch.save(torch.load(FILE, weights_only=True), NEW_FILE), which runs nothing that is in it"
            )
        return self.refuse("is not a .pt file of torch.save")

    def _check(self, entries: dict[str, zipfile.ZipInfo], count: int) -> None:
        if len(entries) < count:
            raise self.refuse("is damaged: it has two entries of one name")
        packed = next((name for name, entry in entries.items() if not is_plain(entry)), None)
        if packed is not None:
            raise self.refuse(
                f"is a compressed or encrypted ZIP (entry {packed[:60]}), whose rows cannot be read one by one; "
                "save it again with torch.save(torch.load(FILE), NEW_FILE)"
            )
        if any(name.startswith("code/") for name in entries):
            raise self.refuse("is a TorchScript program, not saved tensors or a saved module")

    def _top_folder(self, names: list[str]) -> str:
        """`archive/`: torch names it after the file, and old versions always `archive/`."""
        folders = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(folders) != 1:
            raise self.refuse("is a ZIP archive, but not one of torch.save: it has no data.pkl")
        return folders[0]
