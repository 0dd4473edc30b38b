"""Values of several ranks in one message, as trees carry them.

A parcel is one rank's value. Small ones travel inside the message; of large ones only the description does,
and their memory goes straight from owner to destination, so that it is not copied at every level of the tree.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skyfan.comm.channel import Parts
from skyfan.comm.payloads import Value, decode, encode

INLINE_MAX_BYTES = 32 * 2**10

_COUNT = struct.Struct("<I")
_ENTRY = struct.Struct("<IIQ?")


@dataclass(slots=True)
class Parcel:
    """`data` is None while a large value is still on its way."""

    rank: int
    description: bytes
    size_bytes: int
    data: memoryview | None

    @property
    def large(self) -> bool:
        """Whether the memory travels on its own."""
        return self.size_bytes > INLINE_MAX_BYTES

    def value(self) -> Value:
        """The value; its memory must have arrived."""
        assert self.data is not None
        return decode(self.description, self.data, self.rank)

    def room(self) -> memoryview:
        """Memory for a large value that is going to arrive."""
        self.data = np.empty(self.size_bytes, np.uint8).data
        return self.data


def parcel(rank: int, value: object, what: str) -> Parcel:
    """The parcel of a rank's value."""
    description, data = encode(value, what)
    return Parcel(rank, description, data.nbytes, data)


def pack(parcels: Iterable[Parcel]) -> Parts:
    """One message of several parcels."""
    listed = list(parcels)
    parts = [memoryview(_COUNT.pack(len(listed)))]
    for each in listed:
        parts.append(memoryview(_ENTRY.pack(each.rank, len(each.description), each.size_bytes, each.large)))
        parts.append(memoryview(each.description))
        if not each.large and each.data is not None:
            parts.append(each.data)
    return parts


def unpack(message: memoryview) -> list[Parcel]:
    """The parcels of a message; inline values share its memory."""
    (count,) = _COUNT.unpack_from(message)
    offset, found = _COUNT.size, []
    for _ in range(count):
        rank, described, size_bytes, large = _ENTRY.unpack_from(message, offset)
        offset += _ENTRY.size
        description = bytes(message[offset : offset + described])
        offset += described
        data = None
        if not large:
            data = _own(message[offset : offset + size_bytes])
            offset += size_bytes
        found.append(Parcel(rank, description, size_bytes, data))
    return found


def _own(data: memoryview) -> memoryview:
    """A copy in memory of its own: aligned for any dtype."""
    copy = np.empty(data.nbytes, np.uint8)
    if data.nbytes:
        copy[:] = np.frombuffer(data, np.uint8)
    return copy.data
