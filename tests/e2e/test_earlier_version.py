"""A run folder that an earlier version wrote is read, reported and resumed."""

import json
import shutil
from pathlib import Path

import pytest

import skyfan
from skyfan.runs.folder import RunFolder

FIXTURE = Path(__file__).parents[1] / "data" / "run-of-schema-1"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "galaxies")
    return tmp_path / "galaxies"


def test_it_is_read(folder):
    found = skyfan.open_run(str(folder / "run"))
    assert (found.plan.job.model, found.plan.job.partition_size, found.plan.world_size) == ("model.pt", 90 * 1024, 3)
    assert [record.rank for record in found.records] == [0, 1, 2]
    assert found.summary.completeness.samples_predicted == 12
    assert found.predictions()["sample_index"].to_pylist() == list(range(12))


def test_its_page_is_written_again(folder):
    skyfan.open_run(str(folder / "run")).write_report()
    assert "12" in (folder / "run" / "report.html").read_text()


def test_without_a_summary_it_is_aggregated(folder):
    (folder / "run" / "summary.json").unlink()
    (folder / "run" / "predictions" / "rank-1.parquet").unlink()
    summary = skyfan.open_run(str(folder / "run")).write_report()
    assert summary.completeness.missing_ranks == (1,)


def test_resumed_it_keeps_the_names_of_its_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    output = folder / "run"
    plan = RunFolder(str(output)).read_plan()
    (output / "predictions" / "rank-1.parquet").unlink()
    (output / "summary.json").unlink()
    job = plan.job.model_copy(update={"output": str(output)})
    # The fixture was planned elsewhere: its files are named by path and time, which this copy has anew.
    files = skyfan.plan(job).files
    content = json.loads((output / "plan.json").read_text())
    for before, now in zip(content["files"], files, strict=True):
        before.update(uri=now.uri, etag=now.etag)
    (output / "plan.json").write_text(json.dumps(content))
    for _ in range(2):  # the second start reads the plan that the first one left
        assert skyfan.run(job, on="process", progress=False).summary.completeness.complete
        names = sorted(path.name for path in (output / "predictions").iterdir())
        assert names == ["rank-0.parquet", "rank-1.parquet", "rank-2.parquet"]


def test_names_of_files_are_in_the_order_of_ranks(tmp_path):
    names = [RunFolder(str(tmp_path)).predictions_uri(rank) for rank in (2, 10, 999_999)]
    assert names == sorted(names)
