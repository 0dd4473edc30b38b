"""`skyfan plan --forecast`, `skyfan report` of a study, and what starting any command imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfan.cli import app
from skyfan.errors import BadInput
from skyfan.studies.bench import Setting, Study, run_study
from skyfan.studies.bench.measurements import CellResult
from tests.conftest import Sample

pytestmark = pytest.mark.slow


def skyfan(*words: object) -> str:
    """Standard output of the command; its error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    return done.stdout


def test_starting_a_command_imports_nothing_that_draws_or_computes():
    code = "import json, sys, skyfan.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not {"matplotlib", "torch", "galsim", "jinja2", "boto3"} & set(json.loads(done.stdout))


def test_plan_forecasts_time_and_cost(sample: Sample, tmp_path: Path):
    figure = tmp_path / "pareto.svg"
    words = ("--dataset", sample.path, "--partition-size", "1MB", "--forecast", "--concurrency", 2)
    found = json.loads(skyfan("plan", *words, "--figure", figure, "--json"))
    assert found["plan"]["ranks"] == 2
    assert found["plan"]["cost_usd"] > 0
    assert figure.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--dataset"),
        (("--calibrate", "runs"), "--calibration FILE"),
        (("--dataset", "DATA", "--forecast", "--arch", "vax"), "x86_64 or arm64"),
        (("--dataset", "DATA", "--forecast", "--figure", "a.docx"), r"\.svg, \.pdf or \.png"),
        (("--dataset", "DATA", "--forecast", "--figure", "none/a.svg"), "no folder none"),
    ],
)
def test_plan_says_what_it_cannot_use(sample: Sample, words: tuple[str, ...], says: str):
    with pytest.raises(BadInput, match=says):
        skyfan("plan", *(str(sample.path) if word == "DATA" else word for word in words))


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
