"""A rank's file: types as given, and digests that do not depend on how its rows came."""

import hashlib
import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skyfan.errors import LocationError
from skyfan.runs.predictions_writer import ROW_GROUP_BYTES, PredictionsWriter, column_bytes
from skyfan.runs.result_rows import SHAPE_KEY, OutputColumn, ResultColumns, Rows
from tests.report.runs import make_record

COLUMNS = ResultColumns(
    (OutputColumn("embedding", (3,), slice(1, 4)), OutputColumn("map", (2, 2), slice(4, 8))), ("objid", "name"), 0
)


def rows(start: int, stop: int) -> Rows:
    count = stop - start
    outputs = np.arange(start * 8, stop * 8, dtype=np.float32).reshape(count, 8)
    missing = np.array([None if index % 5 else "NaN in x" for index in range(start, stop)], np.object_)
    outputs[missing != np.array(None)] = np.nan
    ids = np.arange(start, stop, dtype=np.uint64) + np.uint64(2**64 - 1000)
    names = np.array([f"SDSS {index}" if index != 3 else None for index in range(start, stop)], np.object_)
    return Rows(
        np.arange(start, stop), outputs, missing, np.full(count, 0.5, np.float32), {"objid": ids, "name": names}
    )


def written(*cuts: int) -> tuple[pq.ParquetFile, dict[str, str]]:
    with PredictionsWriter() as writer:
        for start, stop in itertools.pairwise(cuts):
            writer.write(rows(start, stop).to_table(COLUMNS))
        digests = writer.column_sha256
        return pq.ParquetFile(io.BytesIO(bytes(writer.finished(make_record(0))))), digests


def test_every_type_and_shape_is_kept():
    table = written(0, 12)[0].read()
    assert table["objid"].type == pa.uint64()
    assert table["objid"].to_pylist()[-1] == 2**64 - 989
    assert table["name"].to_pylist()[2:5] == ["SDSS 2", None, "SDSS 4"]
    assert table["embedding"].type == pa.list_(pa.float32(), 3)
    assert table["embedding"].to_pylist()[5:7] == [None, [49.0, 50.0, 51.0]]
    assert table.schema.field("map").metadata[SHAPE_KEY] == b"[2, 2]"
    assert table["z_pred"].null_count == table["delta_z"].null_count == 3
    assert table["missing"].to_pylist()[:2] == ["NaN in x", None]


def test_digests_are_of_the_values_and_not_of_how_they_came():
    file, digests = written(0, 12)
    assert written(0, 1, 5, 12)[1] == digests
    assert set(digests) == set(file.schema_arrow.names)
    by_hand = b"".join(b"\1" + index.to_bytes(8, "little") for index in range(12))
    assert digests["sample_index"] == hashlib.sha256(by_hand).hexdigest()
    texts = [None if index == 3 else f"SDSS {index}".encode() for index in range(12)]
    by_hand = b"".join(
        bytes([text is not None]) + len(text or b"").to_bytes(4, "little") + (text or b"") for text in texts
    )
    assert digests["name"] == hashlib.sha256(by_hand).hexdigest()


def test_a_column_of_truth_values_has_the_digest_of_its_bytes():
    column = pa.array([True, None, False])
    assert column_bytes(column) == bytes([1, 1, 0, 0, 1, 0])


def test_row_groups_are_written_on_the_way():
    with PredictionsWriter() as writer:
        for start in range(0, 5 * ROW_GROUP_BYTES // 8, ROW_GROUP_BYTES // 16):
            writer.write(pa.table({"sample_index": np.arange(start, start + ROW_GROUP_BYTES // 16)}))
        file = pq.ParquetFile(io.BytesIO(bytes(writer.finished(make_record(0)))))
    assert file.num_row_groups == 5


def test_a_full_temporary_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(LocationError, match="absent"):
        PredictionsWriter()
