"""The ZIP container of a `.pt` file, read by a few small ranges: 64 KiB of tail, the directory, the pickle."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from skyfan import store
from skyfan.errors import BadInput, DatasetError
from skyfan.formats.identity import content_identity, zip_identity
from skyfan.formats.notes import as_note
from skyfan.formats.torch.unpickler import MAX_PICKLE_BYTES
from skyfan.plain_text import printable

_TAIL_BYTES = 64 * 2**10
_WINDOW_BYTES = 16 * 2**10
_MAX_DIRECTORY_BYTES = 64 * 2**20
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_DIRECTORY_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_STORED, _ENCRYPTED = 0, 1
_MAX32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive.

    Where its header is, how many bytes it stores, their CRC-32 (0: not computed), and where the next entry begins.
    """

    name: str
    header_bytes_at: int
    size_bytes: int
    crc32: int
    end_before: int


class Archive:
    """An opened `.pt` file: its directory and the bytes of its small entries.

    Names are without the top folder (`data.pkl`, `data/0`). `error` is the class that refusals have.
    """

    def __init__(
        self, uri: store.StrPath, error: type[BadInput] = DatasetError, stats: store.ReadStats | None = None
    ) -> None:
        self._error = error
        self._stats = stats or store.ReadStats()
        info, self._tail = store.read_tail(uri, _TAIL_BYTES, stats=self._stats)
        self._info = info
        self.uri, self.size_bytes, self.etag = info.uri, info.size_bytes, info.etag
        self._windows = [(self.size_bytes - len(self._tail), self._tail)]
        entries = self._read_directory()
        folder = self._top_folder(entries)
        self.entries = {name.removeprefix(folder): entry for name, entry in entries.items()}
        if any(name.startswith("code/") for name in self.entries):
            raise self.refuse("is a TorchScript program, not saved tensors or a saved module")

    @property
    def note(self) -> str:
        """The archive's comment, see `skyfan.formats.notes`."""
        end = self._tail.rfind(b"PK\x05\x06") + _END.size
        return as_note(self._tail[end:])

    def identity(self) -> str:
        """What copies of this file have in common, and no other content has."""
        directory = ((name, entry.size_bytes, entry.crc32) for name, entry in self.entries.items())
        return zip_identity(directory) or content_identity(self._info)

    def refuse(self, reason: str) -> BadInput:
        """The error that says `reason` about this file."""
        return self._error(printable(f"{self.uri} {reason}."))

    def read(self, name: str, limit_bytes: int = MAX_PICKLE_BYTES) -> bytes:
        """A small entry as a whole."""
        entry = self.entries.get(name)
        if entry is None:
            raise self.refuse(f"is incomplete: its entry {name} is missing")
        if entry.size_bytes > limit_bytes:
            raise self.refuse(f"has a {name} of {entry.size_bytes} bytes; at most {limit_bytes} are read")
        self._bytes(entry.header_bytes_at, entry.header_bytes_at + _LOCAL_HEADER.size)
        start = self.data_offsets([name])[name]
        return self._bytes(start, start + entry.size_bytes)

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
        spans = [(entry.header_bytes_at, entry.header_bytes_at + _LOCAL_HEADER.size) for entry in entries.values()]
        headers = self._many(spans)
        offsets = {}
        for (name, entry), header in zip(entries.items(), headers, strict=True):
            signature, *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start = entry.header_bytes_at + _LOCAL_HEADER.size + name_length + extra_length
            if signature != b"PK\x03\x04" or start + entry.size_bytes > entry.end_before:
                raise self.refuse(f"is damaged: its entry {name} does not lie where the directory says")
            offsets[name] = start
        return offsets

    def _bytes(self, start: int, stop: int) -> bytes:
        found = self._cached(start, stop)
        if found is not None:
            return found
        # the pickle, the byte order and the first storage's header lie together: one request for all
        end = max(stop, min(start + _WINDOW_BYTES, self.size_bytes))
        window = store.read_range(self.uri, start, end, etag=self.etag, stats=self._stats)
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
            store.read_into(self.uri, far, memoryview(buffer), etag=self.etag, stats=self._stats)
        rest = memoryview(buffer)
        found = []
        for start, stop in spans:
            data = self._cached(start, stop)
            if data is None:
                data, rest = bytes(rest[: stop - start]), rest[stop - start :]
            found.append(data)
        return found

    def _read_directory(self) -> dict[str, Entry]:
        count, size_bytes, offset = self._directory_place()
        if offset + size_bytes > self.size_bytes or size_bytes > _MAX_DIRECTORY_BYTES:
            raise self.refuse("is damaged or truncated: its ZIP directory lies outside the file")
        directory = self._bytes(offset, offset + size_bytes)
        entries: dict[str, Entry] = {}
        position = 0
        for _ in range(count):
            if position + _DIRECTORY_ENTRY.size > len(directory):
                raise self.refuse("is damaged: its ZIP directory ends early")
            entry, position = self._directory_entry(directory, position)
            if entry.name in entries:
                raise self.refuse(f"is damaged: it has two entries named {entry.name}")
            entries[entry.name] = entry
        return self._bounded(entries, offset) if entries else entries

    def _bounded(self, entries: dict[str, Entry], directory_at: int) -> dict[str, Entry]:
        """Each entry with the place where the next one, or the directory, begins; refuses entries that overlap."""
        ordered = sorted(entries.values(), key=lambda entry: entry.header_bytes_at)
        ends = [*(entry.header_bytes_at for entry in ordered[1:]), directory_at]
        bounded = {}
        for entry, end_before in zip(ordered, ends, strict=True):
            if entry.header_bytes_at + _LOCAL_HEADER.size + entry.size_bytes > end_before:
                raise self.refuse(f"is damaged: its entry {entry.name} overlaps another")
            bounded[entry.name] = replace(entry, end_before=end_before)
        return bounded

    def _directory_place(self) -> tuple[int, int, int]:
        """Number of entries, size and offset of the ZIP directory."""
        end = self._tail.rfind(b"PK\x05\x06")
        if end < 0 or end + _END.size > len(self._tail):
            raise self._not_a_zip()
        _, _, _, _, count, size_bytes, offset, _ = _END.unpack_from(self._tail, end)
        at = end - _LOCATOR64.size
        if at >= 0 and self._tail.startswith(b"PK\x06\x07", at):
            _, _, end64, _ = _LOCATOR64.unpack_from(self._tail, at)
            if end64 + _END64.size > self.size_bytes:
                raise self.refuse("is damaged or truncated: its ZIP64 directory lies outside the file")
            fields = _END64.unpack(self._bytes(end64, end64 + _END64.size))
            count, size_bytes, offset = fields[7:10]
        return count, size_bytes, offset

    def _not_a_zip(self) -> BadInput:
        head = self._bytes(0, min(4, self.size_bytes))
        if not head:
            return self.refuse("is empty (0 bytes)")
        if head == b"PK\x03\x04":
            return self.refuse("is truncated: the end of its ZIP archive is missing; copy it again")
        if head[0] == 0x80:
            return self.refuse(
                "is in torch's old format from before 1.6, or a bare pickle; save it again with "
                "torch.save(torch.load(FILE, weights_only=True), NEW_FILE), which runs nothing that is in it"
            )
        return self.refuse("is not a .pt file of torch.save")

    def _directory_entry(self, directory: bytes, position: int) -> tuple[Entry, int]:
        fields = _DIRECTORY_ENTRY.unpack_from(directory, position)
        signature, flags, method = fields[0], fields[3], fields[4]
        compressed_bytes, size_bytes, offset = fields[8], fields[9], fields[16]
        name_length, extra_length, comment_length = fields[10:13]
        after = position + _DIRECTORY_ENTRY.size
        name = directory[after : after + name_length].decode("utf-8", "replace")
        extra = directory[after + name_length : after + name_length + extra_length]
        if signature != b"PK\x01\x02":
            raise self.refuse("is damaged: its ZIP directory is not one")
        if method != _STORED or flags & _ENCRYPTED:
            raise self.refuse(
                f"is a compressed or encrypted ZIP (entry {name}), whose rows cannot be read one by one; "
                "save it again with torch.save(torch.load(FILE), NEW_FILE)"
            )
        wide = _wide_values(extra)
        size_bytes, compressed_bytes, offset = (
            next(wide, _MAX32) if value == _MAX32 else value for value in (size_bytes, compressed_bytes, offset)
        )
        if size_bytes != compressed_bytes:
            raise self.refuse(f"is damaged: its entry {name} has two sizes")
        if offset + _LOCAL_HEADER.size + size_bytes > self.size_bytes:
            raise self.refuse(f"is truncated: its entry {name} ends after the file; copy it again")
        entry = Entry(name, offset, size_bytes, fields[7], self.size_bytes)
        return entry, after + name_length + extra_length + comment_length

    def _top_folder(self, entries: dict[str, Entry]) -> str:
        """`archive/`: torch names it after the file, and old versions always `archive/`."""
        folders = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(folders) != 1:
            raise self.refuse("is a ZIP archive, but not one of torch.save: it has no data.pkl")
        return folders[0]


def _wide_values(extra: bytes) -> Iterator[int]:
    """The 64-bit values of the ZIP64 extra field, in order."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            count = min(length, len(extra) - position - 4) // 8
            return iter(struct.unpack_from(f"<{count}Q", extra, position + 4))
        position += 4 + length
    return iter(())
