"""`skyfan report` of a study."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfan.cli import app
from skyfan.studies.bench import Setting, Study, run_study
from skyfan.studies.bench.measurements import CellResult

pytestmark = pytest.mark.slow


def skyfan(*words: object) -> str:
    """Standard output of the command; its error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    return done.stdout


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
    assert "Batch-size analysis" in skyfan("report", tmp_path)
    page = tmp_path / "report.html"
    page.unlink()
    found = json.loads(skyfan("report", tmp_path, "--json"))
    assert [row["batch_size"] for row in found["tables"]["batch-sizes"]] == [64, 512]
    assert page.exists()
