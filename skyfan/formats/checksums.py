"""Whether the bytes that were read are those that were saved: CRC-32s of row ranges, put together to whole tensors.

A rank reads some rows of a file, in blocks, several at once. Each block's checksum is taken while it is in the
cache, and the checksums of neighbouring blocks are combined without their bytes. Where the rows of one rank, or of
all ranks together, are all of a tensor whose checksum the file has (`TensorSpec.crc32`), the two must be equal.
"""

import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from skyfan.errors import DatasetError
from skyfan.layout import FileLayout, RowsChecksum, TensorSpec

_POLYNOMIAL = 0xEDB88320  # CRC-32 of ZIP and PNG, bits reflected: RFC 1952, section 8
_ONE, _X = 1 << 31, 1 << 30


@dataclass
class ReadChecksums:
    """Takes the checksums of what is read, from any number of threads."""

    _taken: list[tuple[RowsChecksum, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, file: FileLayout, spec: TensorSpec, start: int, stop: int, data: memoryview) -> None:
        """Rows [start, stop) of `spec` were read, and are `data` as stored."""
        if spec.crc32 is None:
            return
        taken = RowsChecksum(file.identity, spec.name, start, stop, zlib.crc32(data))
        with self._lock:
            self._taken.append((taken, spec.row_bytes))

    def ranges(self) -> tuple[RowsChecksum, ...]:
        """What was read so far, neighbouring rows as one range."""
        with self._lock:
            row_bytes = {(taken.identity, taken.tensor): size_bytes for taken, size_bytes in self._taken}
            return merged((taken for taken, _ in self._taken), row_bytes)


def merged(checksums: Iterable[RowsChecksum], row_bytes: dict[tuple[str, str], int]) -> tuple[RowsChecksum, ...]:
    """Ranges that touch as one; `row_bytes` is the size of a row by identity and tensor. Repeated ones count once."""
    found: list[RowsChecksum] = []
    for right in sorted(set(checksums), key=lambda one: (one.identity, one.tensor, one.start, one.stop)):
        left = found[-1] if found else None
        if left is None or (left.identity, left.tensor, left.stop) != (right.identity, right.tensor, right.start):
            found.append(right)
            continue
        size_bytes = (right.stop - right.start) * row_bytes[right.identity, right.tensor]
        crc32 = combined(left.crc32, right.crc32, size_bytes)
        found[-1] = RowsChecksum(left.identity, left.tensor, left.start, right.stop, crc32)
    return tuple(found)


def verify(files: Iterable[FileLayout], checksums: Iterable[RowsChecksum]) -> int:
    """Compares what was read with what the files say; returns the number of tensors that could be compared.

    Raises:
        DatasetError: a tensor's values are not those that were saved.
    """
    files = list(files)
    row_bytes = {(file.identity, spec.name): spec.row_bytes for file in files for spec in file.tensors}
    read = {(one.identity, one.tensor, one.start, one.stop): one.crc32 for one in merged(checksums, row_bytes)}
    compared = 0
    for file in files:
        for spec in file.tensors:
            crc32 = read.get((file.identity, spec.name, 0, spec.samples))
            if crc32 is None or spec.crc32 is None:
                continue
            if crc32 != spec.crc32:
                raise DatasetError(
                    f"{file.uri}: the values of tensor {spec.name!r} are not those that were saved (CRC-32 {crc32:08x} "
                    f"instead of {spec.crc32:08x}); the file was changed or damaged: copy it again."
                )
            compared += 1
    return compared


def combined(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of two pieces of data one after another, from theirs and the length of the second.

    first · x^(8 · second_bytes) + second, over GF(2) modulo the CRC's polynomial (as zlib's `crc32_combine`).
    """
    power, square, bits = _ONE, _X, 8 * second_bytes
    while bits:
        if bits & 1:
            power = _product(power, square)
        square = _product(square, square)
        bits >>= 1
    return _product(power, first) ^ second


def _product(left: int, right: int) -> int:
    product, bit = 0, _ONE
    while bit:
        if left & bit:
            product ^= right
        right = (right >> 1) ^ (_POLYNOMIAL if right & 1 else 0)
        bit >>= 1
    return product
