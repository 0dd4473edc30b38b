"""The frame around every message between two ranks: 28 bytes, then the payload.

| bytes | field    |                                                              |
|-------|----------|--------------------------------------------------------------|
| 2     | magic    | "SK"                                                         |
| 1     | version  | 1                                                            |
| 1     | op       | `channel.Op`                                                 |
| 4     | sequence | number of the collective                                     |
| 8     | step     | step of the algorithm, or the user's tag                     |
| 4     | check    | CRC-32 of dtype and shape where all ranks must agree, else 0 |
| 8     | length   | of the payload in bytes                                      |

Integers are little-endian.
"""

import struct

from skyfan.comm.channel import Op, Request, Tag
from skyfan.comm.errors import CollectiveMismatch, CommError

HEADER = struct.Struct("<2sBBIqIQ")
MAGIC, VERSION = b"SK", 1
MAX_MESSAGE_BYTES = 2**34  # a length beyond this is a broken stream, not a message


def pack_header(tag: Tag, check: int, length: int) -> bytes:
    """The header of a message of `length` payload bytes."""
    return HEADER.pack(MAGIC, VERSION, tag.op, tag.sequence, tag.step, check, length)


def unpack_header(data: bytes | bytearray | memoryview, peer: int) -> tuple[Tag, int, int]:
    """The (tag, check, length in bytes) of a header that rank `peer` sent.

    Raises:
        CommError: the bytes are no header of this version.
    """
    magic, version, op, sequence, step, check, length = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or length > MAX_MESSAGE_BYTES:
        raise CommError(f"rank {peer} uses another protocol version; run one version of Skyfan on all ranks.")
    return Tag(op, sequence, step), check, length


def require_fit(request: Request, check: int, length: int) -> None:
    """Check that both sides of a reduction passed the same dtype and shape; `length` is the message's, in bytes.

    Raises:
        CollectiveMismatch: they did not.
    """
    expected = request.data
    if check != request.check or (expected is not None and expected.nbytes != length):
        wanted = "" if expected is None else f" ({length} bytes where this rank expects {expected.nbytes})"
        raise CollectiveMismatch(
            f"{request.tag}: the array of rank {request.peer} has another dtype or shape than this rank's{wanted}; "
            "pass arrays of one dtype and shape on all ranks."
        )


def require_same_operation(request: Request, arrived: Tag) -> None:
    """Check that the message that arrived belongs to the collective that this rank called.

    Raises:
        CollectiveMismatch: the other rank called another one with the same sequence number.
    """
    if (
        Op.MESSAGE not in (arrived.op, request.tag.op)
        and arrived.op != request.tag.op
        and arrived.sequence == request.tag.sequence
    ):
        raise CollectiveMismatch(
            f"rank {request.peer} called {arrived} where this rank called {request.tag}; "
            "call the same collectives in the same order on all ranks."
        )
