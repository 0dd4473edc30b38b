"""A rank's predictions as a Parquet file, whose footer holds the rank record."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import RunConflict
from skyfan.records import RankRecord
from skyfan.runs.folder import parse_document
from skyfan.science.metrics import delta_z
from skyfan.science.sentinels import known_redshifts

_RECORD_KEY = b"skyfan.rank_record"
_FOOTER_GUESS_BYTES = 64 * 2**10
# The first and the last four bytes are "PAR1", four more are the footer's length:
# https://parquet.apache.org/docs/file-format/
_SMALLEST_PARQUET_BYTES = 12


@dataclass(frozen=True)
class Predictions:
    """One rank's predictions, row by row in dataset order.

    `outputs` has shape [N, width] float32, NaN where a sample has no prediction; `z_column` is the column of
    `outputs` that holds redshift, if one does; `z_spec` has shape [N], NaN where not known.
    """

    sample_index: NDArray[np.int64]
    outputs: NDArray[np.float32]
    z_column: int | None
    z_spec: NDArray[np.float32] | None

    def to_table(self) -> pa.Table:
        """`sample_index`, then `z_pred`, `z_spec`, `delta_z` where known, then outputs that are not redshift."""
        columns: dict[str, pa.Array] = {"sample_index": pa.array(self.sample_index)}
        if self.z_column is not None:
            z_pred = self.outputs[:, self.z_column]
            columns["z_pred"] = _nullable(z_pred)
            if self.z_spec is not None:
                columns["z_spec"] = _nullable(known_redshifts(self.z_spec).astype(np.float32))
                columns["delta_z"] = _nullable(delta_z(z_pred, self.z_spec).astype(np.float32))
        for column in range(self.outputs.shape[1]):
            if column != self.z_column:
                columns[f"output_{column}"] = _nullable(self.outputs[:, column])
        return pa.table(columns)


class EncodedPredictions:
    """A rank's rows as Parquet, complete but for the footer: that takes the record, which tells how long this took."""

    def __init__(self, predictions: Predictions) -> None:
        table = predictions.to_table()
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finished(self, record: RankRecord) -> bytes:
        """The whole file; to be asked for once."""
        self._writer.add_key_value_metadata({_RECORD_KEY: json.dumps(record.to_json_dict()).encode()})
        self._writer.close()
        return self._sink.getvalue()


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


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
    with _readable(uri):
        metadata = pq.read_metadata(io.BytesIO(tail)).metadata
    return _record_of(uri, metadata, run_id)


def read_predictions(uri: str, run_id: str) -> tuple[pa.Table, RankRecord]:
    """The rows and the record of a rank's file.

    Raises:
        RunConflict: the file is damaged, or not of this run.
        LocationError: there is no such file.
    """
    content = store.read(uri)
    with _readable(uri):
        file = pq.ParquetFile(io.BytesIO(content))
        table = file.read()
    return table, _record_of(uri, file.metadata.metadata, run_id)


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _damaged(uri, str(error).splitlines()[0]) from error


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
    content = (metadata or {}).get(_RECORD_KEY)
    if content is None:
        raise RunConflict(f"{uri} was not written by Skyfan (its footer holds no rank record); move it away.")
    record = parse_document(uri, content, RankRecord)
    if record.run_id != run_id:
        raise RunConflict(f"{uri} belongs to run {record.run_id}, not to {run_id}; move it away.")
    return record
