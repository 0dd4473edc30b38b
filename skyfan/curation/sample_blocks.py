"""Streams a dataset in blocks of samples, so that memory does not grow with the file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyfan.dtypes import STRING
from skyfan.formats.rows import read_batch
from skyfan.layout import FileLayout

BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Block:
    """Samples [start, stop) of every tensor."""

    start: int
    stop: int
    rows: dict[str, NDArray[np.generic]]


def blocks(file: FileLayout) -> Iterator[Block]:
    """All samples in dataset order, about `BLOCK_BYTES` at a time; columns of text are left out."""
    step = max(1, BLOCK_BYTES // max(1, file.sample_bytes))
    numbers = [spec for spec in file.tensors if spec.dtype != STRING]
    for start in range(0, file.samples, step):
        stop = min(start + step, file.samples)
        rows = read_batch(file.uri, numbers, start, stop, etag=file.etag)
        yield Block(start, stop, rows)


def digests(block: Block) -> NDArray[np.void]:
    """A 16-byte digest per sample over the bytes of all its tensors: equal samples have equal digests."""
    raw = [np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8) for rows in block.rows.values()]
    found = bytearray()
    for sample in range(block.stop - block.start):
        digest = hashlib.blake2b(digest_size=16)
        for rows in raw:
            digest.update(rows[sample])
        found += digest.digest()
    return np.frombuffer(bytes(found), dtype="V16")


def repeats(all_digests: NDArray[np.void]) -> NDArray[np.int64]:
    """Positions of the samples that equal an earlier sample, in order."""
    _, first = np.unique(all_digests, return_index=True)
    repeated = np.ones(len(all_digests), dtype=bool)
    repeated[first] = False
    return np.flatnonzero(repeated)
