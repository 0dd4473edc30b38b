"""The forecast as `skyfan plan --forecast` prints it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import skyfan
from skyfan.cli import app
from skyfan.cli.forecast import run_calibration, show_forecast
from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.partitioning import distribute, make_partitions
from skyfan.planning import Plan
from skyfan.progress.summary_rows import summary_rows
from skyfan.studies.forecast.forecast_calibration import MeasuredRate
from skyfan.studies.forecast.model_rate import measure_rate
from tests.e2e.support import make_job

PUBLISHED = str(Path(__file__).parents[1] / "data/published/aws")
IMAGE = TensorSpec(name="image", dtype="float32", shape=(50_000, 5, 32, 32), offset_bytes=0, order=(0, 1, 2))


def plan(samples: int = 50_000) -> Plan:
    image = replace(IMAGE, shape=(samples, 5, 32, 32))
    layout = FileLayout(uri="sky.pt", etag="e", size_bytes=samples * 20_480, samples=samples, tensors=(image,))
    partitions = make_partitions((layout,), 100 * 2**20) if samples else []
    ranks = distribute(partitions, max(1, len(partitions)))
    return Plan(
        run_id="0" * 16,
        job=Job(dataset="sky.pt", model="m", partition_size=100 * 2**20),
        model_digest="d",
        world_size=len(ranks),
        samples=samples,
        data_bytes=samples * 20_480,
        partitions=len(partitions),
        files=(layout,),
        ranks=ranks,
    )


def test_table_names_plan_and_recommendations(capsys, tmp_path):
    figure = tmp_path / "pareto.svg"
    show_forecast(plan(), calibration="published", figure=figure)
    text = capsys.readouterr().out
    for words in ("Forecast of this plan", "cheapest", "fastest", "best trade-off", "65 published runs"):
        assert words in " ".join(text.split())
    assert figure.exists()


def test_json_has_interval_alternatives_and_front(capsys):
    show_forecast(plan(), as_json=True)
    found = json.loads(capsys.readouterr().out)
    own = found["plan"]
    assert own["ranks"] == 10
    assert own["wall_low_s"] <= own["wall_s"] <= own["wall_high_s"]
    assert found["cheapest"]["cost_usd"] <= found["best_trade_off"]["cost_usd"] <= found["fastest"]["cost_usd"]
    assert len(found["pareto"]) <= len(found["alternatives"])


def test_an_empty_plan_cannot_be_forecast():
    with pytest.raises(BadInput, match="no samples"):
        show_forecast(plan(0))


def test_the_references_runs_do_not_calibrate_ours(tmp_path):
    with pytest.raises(BadInput, match="no Skyfan rank records"):
        run_calibration([f"{PUBLISHED}/result-partition-25MB/1GB/1"], str(tmp_path / "c.json"))


def test_a_measured_rate_replaces_the_calibrations_compute_time(capsys):
    show_forecast(plan(), as_json=True)
    packaged = json.loads(capsys.readouterr().out)
    show_forecast(plan(), rate=MeasuredRate("mine.pt", samples_per_s=100_000.0, threads=6), as_json=True)
    faster = json.loads(capsys.readouterr().out)
    assert faster["plan"]["cost_usd"] < packaged["plan"]["cost_usd"]
    assert "mine.pt at 100,000 samples/s with 6 threads" in faster["calibration"]["source"]


@pytest.mark.slow
def test_the_summary_and_the_cost_command_give_one_number(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run")
    summary = skyfan.run(job, on="process", progress=False).summary
    shown = CliRunner().invoke(app, ["cost", job.output, "--json"], catch_exceptions=False)
    assert summary.cost is not None
    assert json.loads(shown.stdout)["total_usd"] == pytest.approx(summary.cost.total_usd)
    # On this machine nothing was billed: neither the table nor the page shows a price.
    assert "AWS" not in " ".join(label for label, _ in summary_rows(summary))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "on AWS Lambda" not in page
    on_aws = summary.model_copy(update={"target": "aws"})
    assert "on AWS Lambda (estimate)" in dict(summary_rows(on_aws))


@pytest.mark.slow
def test_the_rate_of_a_model_is_measured_on_blank_samples(sample, small_model, tmp_path):
    found = measure_rate(make_job(sample.path, small_model, tmp_path / "run"))
    assert found.samples_per_s > 0
    assert found.threads == 1
    assert not (tmp_path / "run").exists()
