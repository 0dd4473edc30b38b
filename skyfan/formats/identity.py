"""What makes a dataset file the same file: its content, wherever it lies and whenever it was written.

The version of a file (`FileLayout.etag`) is something else: it tells whether a file changed in the middle of a run,
and on local files it is made of inode, time and size.
"""

import hashlib
import struct
from collections.abc import Iterable

from skyfan import store

SAMPLED_BLOCKS = 16
SAMPLED_BLOCK_BYTES = 64 * 2**10


def zip_identity(entries: Iterable[tuple[str, int, int]]) -> str | None:
    """The identity of a ZIP container by its directory: (name, size in bytes, CRC-32) of each entry.

    None where an entry has no checksum: `torch.serialization.set_crc32_options(False)` stores zeros, so that any
    two files of equal shapes would pass for one.
    """
    digest = hashlib.sha256()
    for name, size_bytes, crc32 in entries:
        if size_bytes and not crc32:
            return None
        digest.update(name.encode() + b"\0" + struct.pack("<QL", size_bytes, crc32))
    return f"zip:{digest.hexdigest()}"


def content_identity(info: store.ObjectInfo, header: bytes = b"") -> str:
    """The identity of a file that has no checksums of its own.

    On S3 the ETag, which the store makes of the content; elsewhere the size and the SHA-256 of `header` and of 16
    blocks of 64 KiB at fixed places, so that a change between the blocks is not noticed.

    Raises:
        LocationError: the file cannot be read.
        store.PreconditionFailed: it is no longer the version of `info`.
    """
    if info.uri.startswith("s3://") and info.etag:
        return f"etag:{info.etag}"
    digest = hashlib.sha256(struct.pack("<2Q", info.size_bytes, len(header)) + header)
    digest.update(sampled_blocks(info.uri, info.size_bytes, info.etag))
    return f"blocks:{digest.hexdigest()}"


def sampled_blocks(uri: str, size_bytes: int, etag: str | None = None) -> bytearray:
    """The bytes of `sampled_spans`, one after the other.

    Raises:
        LocationError: the file cannot be read.
        store.PreconditionFailed: an `etag` is given, and the file is no longer of that version.
    """
    spans = sampled_spans(size_bytes)
    blocks = bytearray(sum(stop - start for start, stop in spans))
    store.read_into(uri, spans, memoryview(blocks), etag=etag)
    return blocks


def sampled_spans(size_bytes: int) -> list[tuple[int, int]]:
    """The byte ranges of which `content_identity` is made: a small file is one, whole."""
    if size_bytes <= SAMPLED_BLOCKS * SAMPLED_BLOCK_BYTES:
        return [(0, size_bytes)]
    last = size_bytes - SAMPLED_BLOCK_BYTES
    starts = [last * block // (SAMPLED_BLOCKS - 1) for block in range(SAMPLED_BLOCKS)]
    return [(start, start + SAMPLED_BLOCK_BYTES) for start in starts]
