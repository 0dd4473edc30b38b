"""Reads a rank's Parquet file, whose footer holds the rank record."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from skyfan import store
from skyfan.errors import RunConflict
from skyfan.plain_text import first_line
from skyfan.records import RankRecord
from skyfan.runs.folder import parse_document

RECORD_KEY = b"skyfan.rank_record"
_FOOTER_GUESS_BYTES = 64 * 2**10
_WHOLE_FILE_BYTES = 2**20
# The first and the last four bytes are "PAR1", four more are the footer's length:
# https://parquet.apache.org/docs/file-format/
_SMALLEST_PARQUET_BYTES = 12
_LOOKS = 3


def read_record(uri: str, run_id: str) -> RankRecord:
    """The record in the footer of a rank's file, read without the predictions.

    Raises:
        RunConflict: the file is damaged, or not of this run.
        LocationError: there is no such file.
    """
    info, tail = store.read_tail(uri, _FOOTER_GUESS_BYTES)
    check_size(info)
    # Bytes 8 to 4 from the end are the footer's length, which is not believed before it fits: a damaged one would
    # have gigabytes read.
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if footer_bytes > info.size_bytes:
        raise _damaged(uri, f"its footer would have {footer_bytes} bytes, it has {info.size_bytes}")
    if footer_bytes > len(tail):
        tail = store.read_range(uri, info.size_bytes - footer_bytes, info.size_bytes, etag=info.etag)
    with readable(uri):
        metadata = pq.read_metadata(io.BytesIO(tail)).metadata
    return _record_of(uri, metadata, run_id)


def read_predictions(uri: str, run_id: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, RankRecord]:
    """The rows and the record of a rank's file; of `columns` only those that are there, None: all.

    Raises:
        RunConflict: the file is damaged, or not of this run.
        LocationError: there is no such file.
    """
    file, record = open_predictions(uri, run_id)
    with readable(uri):
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        table = file.read(wanted, use_threads=False)
    return table, record


def open_predictions(uri: str, run_id: str) -> tuple[pq.ParquetFile, RankRecord]:
    """A rank's file, to be read in pieces, and its record.

    Raises:
        RunConflict: the file is damaged, or not of this run.
        LocationError: there is no such file.
    """
    info = store.head(uri)
    for _ in range(_LOOKS):
        if info.size_bytes < _SMALLEST_PARQUET_BYTES:
            info = store.head(uri)  # an answer that was cut on its way tells 0 bytes, too
    check_size(info)
    # A small file is one request; of a large one the columns that are wanted are read, and no others.
    source = io.BytesIO(store.read(uri)) if info.size_bytes <= _WHOLE_FILE_BYTES else store.RangeFile(info)
    with readable(uri):
        file = pq.ParquetFile(source)
    return file, _record_of(uri, file.metadata.metadata, run_id)


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """Raises `RunConflict` where what is read inside shows that the file is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, MemoryError) or "Failed to launch worker thread" in str(error):
            raise MemoryError(first_line(error)) from error  # the file may be whole
        raise _damaged(uri, first_line(error)) from error


def check_size(info: store.ObjectInfo) -> None:
    """Refuse a rank's file that cannot be one, such as one that was emptied.

    Raises:
        RunConflict: it is smaller than any Parquet file.
    """
    if info.size_bytes < _SMALLEST_PARQUET_BYTES:
        raise _damaged(info.uri, f"{info.size_bytes} bytes")


def _damaged(uri: str, why: str) -> RunConflict:
    return RunConflict(f"{uri} is damaged ({why}); remove it, and the same command computes it again.")


def _record_of(uri: str, metadata: dict[bytes, bytes] | None, run_id: str) -> RankRecord:
    content = (metadata or {}).get(RECORD_KEY)
    if content is None:
        raise RunConflict(f"{uri} was not written by Skyfan (its footer holds no rank record); move it away.")
    record = parse_document(uri, content, RankRecord)
    if record.run_id != run_id:
        raise RunConflict(f"{uri} belongs to run {record.run_id}, not to {run_id}; move it away.")
    return record
