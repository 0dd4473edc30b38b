"""A run folder that an earlier version wrote is read, reported and resumed."""

import shutil
from pathlib import Path

import pytest

import skyfan

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
