"""Writes a rank's rows to a file on disk while they are computed; finished, it is committed by one conditional put.

The file is a temporary one without a name (in TMPDIR), and goes with the process.
"""

import hashlib
import json
import mmap
import tempfile
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skyfan import store
from skyfan.records import RankRecord
from skyfan.runs.predictions import RECORD_KEY

# Large enough that columns compress well; this much is held in memory, and at most two of it while it is encoded.
ROW_GROUP_BYTES = 8 * 2**20


class ColumnDigests:
    """SHA-256 of each column's values as rows are added, see `column_bytes`."""

    def __init__(self) -> None:
        self._digests: dict[str, Any] = {}

    def add(self, table: pa.Table) -> None:
        """The next rows."""
        for name in table.column_names:
            self._digests.setdefault(name, hashlib.sha256()).update(column_bytes(table[name].combine_chunks()))

    def hex(self) -> dict[str, str]:
        """Column → digest of all rows so far."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


class PredictionsWriter:
    """A rank's Parquet file as it grows. Columns are set by the first rows."""

    def __init__(self) -> None:
        with store.named_errors(tempfile.gettempdir(), "written"):
            self._spool: IO[bytes] = tempfile.TemporaryFile(prefix="skyfan-")  # noqa: SIM115 (closed in __exit__)
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._digests = ColumnDigests()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None and kind is not None:
            self._writer = None  # never finished: its end is not written
        self._spool.close()

    @property
    def column_sha256(self) -> dict[str, str]:
        """The digest of each column's values so far; rows that are held are written first."""
        self.flush()
        return self._digests.hex()

    def write(self, table: pa.Table) -> None:
        """Adds rows; a row group is written where enough have come together.

        Raises:
            LocationError: the temporary folder is full, or may not be written.
        """
        self._held.append(table)
        self._held_bytes += table.nbytes
        if self._held_bytes >= ROW_GROUP_BYTES:
            self.flush()

    def finished(self, record: RankRecord) -> mmap.mmap:
        """The whole file, mapped into memory; to be asked for once, after at least one row."""
        self.flush()
        assert self._writer is not None
        with store.named_errors(tempfile.gettempdir(), "written"):
            self._writer.add_key_value_metadata({RECORD_KEY: json.dumps(record.to_json_dict()).encode()})
            self._writer.close()
            self._spool.flush()
        return mmap.mmap(self._spool.fileno(), 0, access=mmap.ACCESS_READ)

    def flush(self) -> None:
        """Writes the rows that are held as a row group."""
        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        self._held, self._held_bytes = [], 0
        self._digests.add(table)
        with store.named_errors(tempfile.gettempdir(), "written"):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._spool, table.schema, compression="zstd")
            self._writer.write_table(table, row_group_size=len(table))


def column_bytes(column: pa.Array) -> bytes:
    """The bytes of a column of which `column_sha256` is the digest, however its rows are cut into pieces.

    For each row one byte, 1 or 0 where it is null, then its value as little-endian bytes (zeros where null); of text
    the length of its UTF-8 as uint32, and the UTF-8.
    """
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text_bytes(column, present)
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 1
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values = column.fill_null(0) if width == 1 else column.values.slice(column.offset * width, len(column) * width)
    flat = values.to_numpy(zero_copy_only=False)
    rows = flat.astype(flat.dtype.newbyteorder("<"), copy=False).reshape(len(column), width)
    if width > 1 and not present.all():
        rows = np.where(present[:, None], rows, rows.dtype.type(0))
    packed = np.empty(len(column), [("valid", "u1"), ("value", rows.dtype, (width,))])
    packed["valid"], packed["value"] = present, rows
    return packed.tobytes()


def _text_bytes(column: pa.Array, present: NDArray[np.bool_]) -> bytes:
    import pyarrow.compute as pc  # here: a cold start does not wait for it, only a column of text

    texts = column.cast(pa.large_binary()).fill_null(b"")
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    heads = np.empty(len(column), [("valid", "u1"), ("length", "<u4")])
    heads["valid"], heads["length"] = present, lengths
    if not lengths.any():
        return heads.tobytes()
    ends = np.cumsum(lengths + heads.itemsize)
    at = (ends - lengths - heads.itemsize)[:, None] + np.arange(heads.itemsize)
    packed = np.empty(ends[-1], np.uint8)
    is_text = np.ones(len(packed), np.bool_)
    packed[at] = heads.view(np.uint8).reshape(at.shape)
    is_text[at] = False
    packed[is_text] = np.frombuffer(b"".join(texts.to_pylist()), np.uint8)
    return packed.tobytes()
