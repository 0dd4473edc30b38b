"""`skyfan report` of a study."""

import json
from pathlib import Path

import pytest

from skyfan.studies.bench import Setting, Study, run_study
from skyfan.studies.bench.measurements import CellResult
from tests.command import skyfan
from tests.e2e.support import make_job, run

pytestmark = pytest.mark.slow


def test_report_of_a_study_prints_its_tables_and_writes_its_page_again(tmp_path: Path):
    record = {
        "total_cpu_time (seconds)": 2.0,
        "execution_time (seconds/batch)": 0.5,
        "samples": 100,
        "bytes_read": 2**20,
        "wall_s": 2.0,
        "load_s": 0.1,
        "wait_s": 0.1,
        "compute_s": 1.7,
        "write_s": 0.1,
        "peak_rss_bytes": 2**28,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:00:02+00:00",
    }

    def run_cell(setting: Setting, folder: str) -> CellResult:
        return CellResult({"timing": {"wall_s": 4.0}}, [record])

    study = Study(name="s", title="t", repetitions=1, warmup=0, grid={"batch_size": (64, 512)})
    run_study(study, str(tmp_path), run_cell)
    assert "Batch-size analysis" in skyfan("report", tmp_path).stdout
    page = tmp_path / "report.html"
    page.unlink()
    found = json.loads(skyfan("report", tmp_path, "--json").stdout)
    assert [row["batch_size"] for row in found["tables"]["batch-sizes"]] == [64, 512]
    assert page.exists()


def test_two_runs_are_put_side_by_side(tmp_path: Path, sample, small_model):
    for name, size in (("one", 40), ("other", 20)):
        job = make_job(sample.path, small_model, tmp_path / name, partition_size_bytes=size * 20504)
        run(job)
    text = skyfan("report", tmp_path / "one", tmp_path / "other").stdout
    assert "The runs differ in number of ranks" in text
    assert max(map(len, text.splitlines())) <= 80
    found = json.loads(skyfan("report", tmp_path / "one", tmp_path / "other", "--json").stdout)
    rows = {row["metric"]: row for row in found["rows"]}
    assert rows["samples predicted"]["values"] == [101, 101]
    assert rows["ranks"]["values"] == [3, 6]
    assert rows["R²"]["values"][0] == pytest.approx(rows["R²"]["values"][1], rel=1e-3)
    same = json.loads(skyfan("report", tmp_path / "one", tmp_path / "one", "--json").stdout)
    assert {row["values"][0] for row in same["rows"]} == {row["values"][1] for row in same["rows"]}
