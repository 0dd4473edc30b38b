"""`skyfan plan --forecast` as a user calls it."""

import json
from pathlib import Path

import pytest

from skyfan.errors import BadInput
from skyfan.studies import forecast
from tests.command import skyfan
from tests.conftest import Sample

pytestmark = pytest.mark.slow


def test_plan_forecasts_time_and_cost(sample: Sample, tmp_path: Path):
    figure = tmp_path / "pareto.svg"
    words = ("--dataset", sample.path, "--partition-size", "1MB", "--forecast", "--concurrency", 2)
    found = json.loads(skyfan("plan", *words, "--figure", figure, "--json").stdout)
    assert found["plan"]["ranks"] == 2
    assert found["plan"]["cost_usd"] > 0
    assert figure.exists()
    assert {one["compute"] for one in found["computes"]} == {"lambda", "batch", "batch-gpu", "sagemaker", "slurm"}
    assert found["recommended_compute"]["fastest"]["compute"] == "lambda"


def test_a_plan_that_lambda_cannot_run_is_forecast_for_what_can(sample: Sample, tmp_path: Path):
    slow = json.loads((Path(forecast.__file__).parent / "skyfan.json").read_text()) | {"compute_s_per_sample": 100.0}
    calibration = tmp_path / "slow.json"
    calibration.write_text(json.dumps(slow))
    words = ("--dataset", sample.path, "--partition-size", "1MB", "--forecast", "--calibration", calibration)
    found = json.loads(skyfan("plan", *words, "--json").stdout)
    assert (found["cheapest"], found["pareto"]) == (None, [])
    assert found["recommended_compute"]["cheapest"]["compute"] != "lambda"
    assert "Nothing of this can run within Lambda's limits" in skyfan("plan", *words).stdout


def test_the_table_of_computes_fits_80_columns(sample: Sample):
    text = skyfan("plan", "--dataset", sample.path, "--partition-size", "1MB", "--forecast", "--workers", 3).stdout
    table = text.partition("Where this plan could run")[2].partition("Recommended:")[0]
    assert "3 × g5.xlarge" in table
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--dataset"),
        (("--fit", "runs"), "--calibration FILE"),
        (("--dataset", "DATA", "--forecast", "--arch", "vax"), "x86_64 or arm64"),
        (("--dataset", "DATA", "--forecast", "--figure", "a.docx"), r"\.svg, \.pdf or \.png"),
        (("--dataset", "DATA", "--forecast", "--figure", "none/a.svg"), "no folder none"),
    ],
)
def test_plan_says_what_it_cannot_use(sample: Sample, words: tuple[str, ...], says: str):
    with pytest.raises(BadInput, match=says):
        skyfan("plan", *(str(sample.path) if word == "DATA" else word for word in words))
