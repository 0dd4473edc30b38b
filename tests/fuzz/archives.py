"""ZIP archives whose directories lie in one respect, written by hand: zipfile would not."""

import struct
import zlib
from dataclasses import dataclass, replace
from random import Random

_SIZES = (0, 1, 30, 2**31, 2**32 - 1, 2**32, 2**62, 2**63, 2**64 - 1)


@dataclass(frozen=True)
class Entry:
    """One entry as the directory tells of it."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size_bytes: int | None = None
    offset: int | None = None
    wide: bool = False


def archive(random: Random, contents: dict[str, bytes]) -> bytes:
    """The archive of a `torch.save` file with these entries, half of the time with one lie."""
    entries = [Entry(f"archive/{name}".encode("utf-8", "surrogatepass"), data) for name, data in contents.items()]
    count = None
    if random.random() < 0.3:
        at = random.randrange(len(entries))
        changed = _lie(random, entries[at])
        if random.random() < 0.2:
            entries.append(changed)
        else:
            entries[at] = changed
        if random.random() < 0.1:
            count = random.choice((0, 1, 2**16 - 1))
    data = _written(entries, count)
    if random.random() < 0.05:
        damaged = bytearray(data)
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        data = bytes(damaged)
    return data[: random.randrange(len(data))] if random.random() < 0.02 else data


def _lie(random: Random, entry: Entry) -> Entry:
    size_bytes = random.choice((*_SIZES, len(entry.data) + 1))
    name = random.choice((b"archive/data/0", b"archive/data.pkl", b"data.pkl", b"../x", b"\x1b[2J"))
    return random.choice(
        (
            replace(entry, size_bytes=size_bytes, wide=True),
            replace(entry, size_bytes=size_bytes & 0xFFFFFFFF),
            replace(entry, offset=random.choice(_SIZES), wide=True),
            replace(entry, offset=random.randrange(200)),
            replace(entry, flags=1),
            replace(entry, flags=0x800, name=b"archive/\xff\xfe"),
            replace(entry, method=random.choice((8, 12, 14, 99))),
            replace(entry, crc=0),
            replace(entry, name=name),
        )
    )


def _written(entries: list[Entry], count: int | None) -> bytes:
    body, directory = b"", b""
    for entry in entries:
        at = len(body) if entry.offset is None else entry.offset
        size_bytes = len(entry.data) if entry.size_bytes is None else entry.size_bytes
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        body += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, entry.flags, entry.method, 0, 33, crc,
                            len(entry.data), len(entry.data), len(entry.name), 0) + entry.name + entry.data  # fmt: skip
        extra = struct.pack("<2H3Q", 1, 24, size_bytes, size_bytes, at) if entry.wide else b""
        shown = (0xFFFFFFFF,) * 3 if entry.wide else (size_bytes & 0xFFFFFFFF, size_bytes & 0xFFFFFFFF, at & 0xFFFFFFFF)
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 45, 45, entry.flags, entry.method, 0, 33, crc,
                                 *shown[:2], len(entry.name), len(extra), 0, 0, 0, 0, shown[2])  # fmt: skip
        directory += entry.name + extra
    told = len(entries) if count is None else count
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, told, told, len(directory), len(body), 0)
