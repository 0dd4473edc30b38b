"""What must hold for every simulated run."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfan.cost import load_prices
from skyfan.errors import BadInput
from skyfan.studies.forecast.forecast_calibration import Calibration, Spread
from skyfan.studies.forecast.map_simulation import Limits, Workload, simulate
from skyfan.studies.forecast.predict import forecast

PLAIN = Calibration(
    source="test",
    plan_s=0,
    start_interval_s=0,
    rank_fixed_s=1,
    compute_s_per_sample=0.01,
    measured_vcpus=10_240 / 1769,
    spread=Spread.none(),
    aggregate_s=0,
    aggregate_s_per_rank=0,
)
HEAVY_TAIL = Spread(probability=(0, 0.9, 1), factor=(0.8, 1.2, 4))

calibrations = st.builds(
    lambda fixed, compute, interval, read, failures, spread: PLAIN.model_copy(
        update={
            "rank_fixed_s": fixed,
            "compute_s_per_sample": compute,
            "start_interval_s": interval,
            "read_bytes_per_s": read,
            "failure_share": failures,
            "spread": spread,
        }
    ),
    fixed=st.floats(0, 10),
    compute=st.floats(0, 0.1),
    interval=st.floats(0, 0.5),
    read=st.none() | st.floats(1e5, 1e9),
    failures=st.sampled_from([0.0, 0.1, 0.6]),
    spread=st.sampled_from([Spread.none(), HEAVY_TAIL]),
)
jobs = st.builds(
    Workload,
    st.lists(st.integers(0, 2000), min_size=1, max_size=60),
    st.sampled_from([20_500, 100]),
    st.sampled_from([1769, 10_240]),
)
limits = st.builds(
    Limits,
    lambda_concurrency=st.integers(1, 50),
    burst=st.integers(1, 30),
    ramp_per_s=st.floats(0.1, 100),
    map_concurrency=st.integers(1, 50),
    s3_gets_per_s=st.sampled_from([1.0, 5500.0]),
)


def test_by_hand_two_waves():
    # 3 ranks of 1 + 0.01 × 100 = 2 s on 2 slots: two waves.
    outcome = simulate(Workload([100] * 3, 100), PLAIN, Limits(lambda_concurrency=2))
    assert outcome.wall_s == pytest.approx(4.0)
    assert outcome.billed_s == pytest.approx(6.0)
    assert outcome.peak_concurrency == 2
    assert outcome.held_back_s["Lambda concurrency"] == pytest.approx(2.0)


def test_by_hand_pace_of_starts_and_merge():
    paced = PLAIN.model_copy(
        update={"plan_s": 3.0, "start_interval_s": 0.5, "aggregate_s": 1.0, "aggregate_s_per_rank": 0.1}
    )
    outcome = simulate(Workload([0] * 11, 100), paced, Limits())
    assert outcome.map_s == pytest.approx(10 * 0.5 + 1)
    assert outcome.wall_s == pytest.approx(3 + 6 + 1 + 1.1)
    assert outcome.binding == "pace of starts"
    one_page = paced.model_copy(update={"aggregate_at_most_ranks": 5})
    assert simulate(Workload([0] * 11, 100), one_page, Limits()).aggregate_s == pytest.approx(1.5)


def test_by_hand_ramp():
    # 2 at once, then one more environment a second: starts at 0, 0, 1, 2 s.
    slow = PLAIN.model_copy(update={"rank_fixed_s": 100.0})
    outcome = simulate(Workload([0] * 4, 100), slow, Limits(burst=2, ramp_per_s=1.0))
    assert outcome.map_s == pytest.approx(102.0)
    assert outcome.held_back_s["Lambda ramp"] == pytest.approx(2.0)


def test_by_hand_reading_and_requests():
    # 10 MB at 1 MB/s; then the same 4 requests (2 of data, 2 besides) at one a second, twice.
    reading = PLAIN.model_copy(
        update={"read_bytes_per_s": 1e6, "compute_s_per_sample": 0.0, "request_bytes": 5_000_000, "rank_fixed_s": 0.0}
    )
    assert simulate(Workload([100], 100_000), reading, Limits()).map_s == pytest.approx(10.0)
    limited = simulate(Workload([100] * 5, 100_000), reading, Limits(s3_gets_per_s=1.0))
    assert limited.map_s == pytest.approx(20.0)
    assert simulate(Workload([100] * 5, 100_000), reading, Limits(s3_gets_per_s=1.0, prefixes=2)).map_s == 10.0


def test_a_new_environment_starts_cold_and_is_used_again():
    cold = PLAIN.model_copy(update={"cold_start_s": 5.0})
    outcome = simulate(Workload([0] * 4, 100), cold, Limits(lambda_concurrency=2))
    assert outcome.billed_s == pytest.approx(2 * (5 + 1) + 2 * 1)


def test_less_memory_is_slower():
    small, large = (simulate(Workload([1000], 100, mb), PLAIN, Limits()) for mb in (1769, 10_240))
    assert small.map_s - 1 == pytest.approx((large.map_s - 1) * 1 / (0.1 + 0.9 / (10_240 / 1769)))


@settings(deadline=None)
@given(jobs, calibrations, limits, st.integers(0, 5))
def test_ranks_are_conserved(job, calibration, limit, seed):
    outcome = simulate(job, calibration, limit, seed)
    assert outcome.done + outcome.failed == job.ranks
    assert job.ranks <= outcome.attempts <= 4 * job.ranks
    assert 1 <= outcome.peak_concurrency <= min(limit.lambda_concurrency, limit.map_concurrency)
    assert outcome.wall_s >= outcome.map_s >= outcome.longest_rank_s - 1e-9
    assert outcome.billed_s <= outcome.map_s * outcome.peak_concurrency + 1e-6
    assert all(seconds >= 0 for seconds in outcome.held_back_s.values())


@settings(deadline=None)
@given(jobs, calibrations, limits, st.integers(0, 5), st.integers(1, 50))
def test_more_concurrency_is_never_slower_without_contention(job, calibration, limit, seed, more):
    quiet = calibration.model_copy(update={"failure_share": 0.0})
    wider = dataclasses.replace(
        limit,
        lambda_concurrency=limit.lambda_concurrency + more,
        burst=limit.burst + more,
        map_concurrency=limit.map_concurrency + more,
    )
    assert simulate(job, quiet, wider, seed).wall_s <= simulate(job, quiet, limit, seed).wall_s + 1e-6


@settings(deadline=None, max_examples=40)
@given(jobs, calibrations, limits)
def test_cost_is_never_negative_and_the_interval_holds_the_median(job, calibration, limit):
    noisy = calibration.model_copy(update={"residual_sigma": 0.5})
    found = forecast(job, noisy, load_prices(), limits=limit, repetitions=5)
    assert 0 < found.cost_low_usd <= found.cost_usd <= found.cost_high_usd
    assert found.wall_low_s <= found.wall_s <= found.wall_high_s


def test_a_rank_that_always_fails_is_tried_four_times_and_lost():
    failing = PLAIN.model_copy(update={"failure_share": 0.999999})
    outcome = simulate(Workload([100] * 20, 100), failing, Limits())
    assert (outcome.done, outcome.failed, outcome.attempts) == (0, 20, 80)
    # Half a rank's 2 s four times, with waits of 2, 4 and 8 s between.
    assert outcome.map_s == pytest.approx(4 * 1 + 14)


def test_same_seed_same_outcome():
    varied = PLAIN.model_copy(update={"spread": HEAVY_TAIL, "failure_share": 0.3})
    first, again, other = (simulate(Workload([100] * 50, 100), varied, Limits(), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.attempts > 50


def test_nonsense_is_refused():
    with pytest.raises(BadInput, match="without ranks"):
        simulate(Workload([], 100), PLAIN, Limits())
    with pytest.raises(BadInput, match="lambda_concurrency is 0"):
        Limits(lambda_concurrency=0)
