"""The forecast as `skyfan plan --forecast` prints it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skyfan.cli.forecast import run_calibration, show_forecast
from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import Plan, distribute, make_partitions

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
