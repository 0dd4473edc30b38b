"""Batch, SageMaker and Slurm beside Lambda: time, cost, what binds, and what is recommended."""

import dataclasses
import functools

import pytest

from skyfan.cost import load_prices
from skyfan.errors import BadInput
from skyfan.studies.forecast.computes import COMPUTES, GPU_SAMPLES_PER_S, ComputeForecast, compare_computes
from skyfan.studies.forecast.forecast_calibration import load_calibration
from skyfan.studies.forecast.map_simulation import Workload
from skyfan.studies.forecast.predict import even_ranks, forecast, recommend

PRICES, CALIBRATION = load_prices(), load_calibration("skyfan")


@functools.cache
def compared(samples: int, workers: int | None = None, slower: float = 1.0) -> dict[str, ComputeForecast]:
    work = Workload(even_ranks(samples, 20_500, 100 * 2**20), 20_500)
    per_sample_s = CALIBRATION.compute_s_per_sample * slower
    known = CALIBRATION.model_copy(update={"compute_s_per_sample": per_sample_s})
    own = forecast(work, known, PRICES, repetitions=3)
    found = compare_computes(own, work, known, PRICES, workers=workers)
    return {one.runs_on.split(" × ")[-1]: one for one in found}


def test_every_compute_is_there_and_only_the_own_cluster_has_no_price():
    found = compared(659_817)
    assert {one.compute for one in found.values()} == {"lambda", "batch", "batch-gpu", "sagemaker", "slurm"}
    assert [one.compute for one in found.values() if one.cost_usd is None] == ["slurm"]
    assert all(one.wall_low_s <= one.wall_s <= one.wall_high_s for one in found.values())


def test_machines_that_start_for_minutes_are_slower_for_little_and_bound_by_their_work_for_much():
    little, much = compared(10_000), compared(30_000_000)
    assert little["g5.xlarge"].wall_s > 10 * little["10 GB function"].wall_s
    assert little["g5.xlarge"].binding == "machines' start"
    assert much["g5.xlarge"].binding == "workers"


def test_twice_the_workers_take_less_time_and_about_the_same_money():
    some, more = (compared(6_000_000, workers)["4 vCPU Fargate"] for workers in (15, 30))
    assert more.wall_s < 0.7 * some.wall_s
    assert more.cost_usd == pytest.approx(some.cost_usd, rel=0.3)


def test_workers_fill_machines_with_several_gpus():
    assert compared(10_000, workers=9)["A100 (p4d)"].workers == 16


def test_a_model_that_is_slower_on_processors_is_slower_on_gpus_too():
    one, two = (compared(6_000_000, slower=slower)["p5.4xlarge"].wall_s for slower in (4.0, 8.0))
    assert two - one > 0.9 * 4 * 6_000_000 / GPU_SAMPLES_PER_S["H100"]


def test_one_h100_takes_what_it_was_measured_to_take():
    """655,360 samples at 74,125 a second are 8.8 s, as one rank; the whole command 16.1 s."""
    start_s = next(one.start_s for one in COMPUTES if one.gpu == "H100")
    found = compared(659_817)["p5.4xlarge"]
    assert 8.8 < found.wall_s - start_s < 130
    assert "measured" in found.basis


def test_the_choice_leaves_out_what_cannot_run_or_has_no_price():
    found = list(compared(659_817).values())
    fastest = dataclasses.replace(found[-1], wall_s=0.1)
    impossible = dataclasses.replace(found[0], wall_s=0.1, cost_usd=1e-9, warnings=("too long",))
    chosen = recommend([*found, fastest, impossible])
    assert chosen.fastest is found[0]
    with pytest.raises(BadInput, match="smaller partitions"):
        recommend([fastest, impossible])


def test_a_price_file_without_machines_is_refused_by_name():
    region = PRICES.region("us-east-1").model_copy(update={"ec2_h": {}})
    poorer = PRICES.model_copy(update={"regions": {"us-east-1": region}})
    work = Workload([5113], 20_500)
    own = forecast(work, CALIBRATION, PRICES, repetitions=1)
    with pytest.raises(BadInput, match=r"g5\.xlarge"):
        compare_computes(own, work, CALIBRATION, poorer)
