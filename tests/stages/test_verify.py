"""`verify`: what was changed after a run is found, and named by file and row."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import skyfan
from skyfan.cli import app
from skyfan.errors import Incomplete, Mismatch
from skyfan.runs.predictions import RECORD_KEY
from tests.conftest import make_sample, make_small_model
from tests.e2e.support import make_job, run
from tests.e2e.test_results import exported
from tests.e2e.test_several_models import Magnitudes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    sample, model = make_sample(folder / "sky.pt"), make_small_model(folder / "small.pt")
    run(make_job(sample.path, model, folder / "run"))
    return folder


@pytest.fixture
def whole(_whole: Path, tmp_path: Path) -> Path:
    """A run of nine ranks, with its model, that the test may change; its dataset stays where it is."""
    shutil.copytree(_whole / "run", tmp_path / "run")
    return tmp_path / "run"


def _rewrite(path: Path, table: pa.Table, record: bytes | None = None) -> None:
    """Other rows in the rank's file; the footer's record as it was, or another one."""
    record = record or pq.read_metadata(path).metadata[RECORD_KEY]
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({RECORD_KEY: record})


def _changed(path: Path, column: str, row: int, value: object) -> None:
    """One value changed."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    at = table.column_names.index(column)
    _rewrite(path, table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type)))


def _rank(folder: Path, rank: int) -> Path:
    return folder / "predictions" / f"rank-{rank:07d}.parquet"


def test_a_run_as_it_was_left_is_right_and_was_computed_by_another_engine(whole: Path):
    found = skyfan.open_run(str(whole)).verify(samples=20)
    assert (found.ok, found.ranks, found.rows, found.samples) == (True, 9, 101, 20)
    assert {found.engine, found.run_engine} == {"torch", "openvino"}
    assert found.largest_deviation is not None
    assert found.tolerance is not None
    assert found.largest_deviation <= found.tolerance
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    skyfan.open_run(str(whole)).verify(samples=1)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_changed_float_is_found_and_its_row_named(whole: Path):
    wrong = pq.read_table(_rank(whole, 3))["z_pred"][5].as_py() + 1e-3
    _changed(_rank(whole, 3), "z_pred", 5, wrong)
    found = skyfan.open_run(str(whole)).verify(samples=0)
    assert [one.where for one in found.findings] == [str(_rank(whole, 3))]
    assert "the digest of z_pred" in found.findings[0].what
    assert f"row 5 (sample {3 * 12 + 5}): z_pred is {np.float32(wrong):.8g}" in found.findings[0].what


def test_a_changed_row_number_and_a_cut_file_are_found(whole: Path):
    _changed(_rank(whole, 0), "sample_index", 2, 7)
    _rewrite(_rank(whole, 1), pq.read_table(_rank(whole, 1)).slice(1))
    content = _rank(whole, 2).read_bytes()
    _rank(whole, 2).write_bytes(content[:-20])
    told = " | ".join(one.what for one in skyfan.open_run(str(whole)).verify(samples=0).findings)
    assert "row 2: sample_index is 7, planned is 2" in told
    assert "has 11 rows and its record tells of 12" in told
    assert "is damaged" in told


def test_without_digests_the_samples_that_are_computed_again_tell(whole: Path):
    """Ranks of earlier versions hold no digests."""
    path = _rank(whole, 8)
    record = json.loads(pq.read_metadata(path).metadata[RECORD_KEY]) | {"column_sha256": {}}
    _rewrite(path, pq.read_table(path), json.dumps(record).encode())
    _changed(path, "z_pred", 4, 9.0)
    found = skyfan.open_run(str(whole)).verify(samples=101)
    assert [one.where for one in found.findings] == [str(path)]
    assert found.findings[0].what.startswith("row 4 (sample 100): z_pred is 9,")


def test_a_changed_byte_of_the_converted_model_is_found(whole: Path):
    (model,) = (whole / "model").iterdir()
    content = bytearray(model.read_bytes())
    content[-3] ^= 1
    model.write_bytes(bytes(content))
    (finding,) = skyfan.open_run(str(whole)).verify(samples=4).findings
    assert finding.where == str(model)
    assert "damaged" in finding.what


def test_a_changed_byte_of_a_converted_program_is_found(tmp_path: Path):
    sample, model = make_sample(tmp_path / "sky.pt", samples=12), tmp_path / "magnitudes.pt2"
    exported(Magnitudes(), model)
    run(make_job(sample.path, model, tmp_path / "run", engine="openvino"))
    (graph,) = (tmp_path / "run/model").glob("*/*.xml")
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(bytes(content))
    (finding,) = skyfan.open_run(str(tmp_path / "run")).verify(samples=4).findings
    assert finding.where == str(graph.with_name("engine.json"))
    assert f"{graph.name} of {finding.where} changed" in finding.what


def test_a_changed_byte_of_the_users_model_is_found(tmp_path: Path):
    sample, model = make_sample(tmp_path / "sky.pt", samples=12), make_small_model(tmp_path / "small.pt")
    run(make_job(sample.path, model, tmp_path / "run"))
    model.write_bytes(model.read_bytes() + b"\0")
    findings = skyfan.open_run(str(tmp_path / "run")).verify(samples=4).findings
    assert "its SHA-256 differs" in findings[0].what
    assert findings[0].where == str(model)


def test_a_removed_rank_is_missing_and_the_command_tells_it_from_a_change(whole: Path):
    _rank(whole, 4).unlink()
    with pytest.raises(Incomplete, match="1 rank missing") as raised:
        CliRunner().invoke(app, ["verify", str(whole), "--samples", "3"], catch_exceptions=False)
    assert raised.value.exit_code == 3
    _changed(_rank(whole, 3), "z_pred", 0, float(np.float32(0.5)))
    with pytest.raises(Mismatch, match="2 problems") as other:
        CliRunner().invoke(app, ["verify", str(whole), "--samples", "3"], catch_exceptions=False)
    assert other.value.exit_code == 4


def test_json_has_what_was_checked(whole: Path):
    shown = CliRunner().invoke(app, ["verify", str(whole), "--samples", "2", "--json"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert '"schema": "skyfan.verification/1"' in shown.stdout
    assert '"ok": true' in shown.stdout
