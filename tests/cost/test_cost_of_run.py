"""From rank records to a bill, and to other memory sizes."""

import pytest

from skyfan.cost import (
    RankTime,
    bill,
    compare,
    load_prices,
    pipeline_transitions,
    rank_times,
    usage_of_ranks,
    vcpus,
)
from skyfan.errors import BadInput

PRICES = load_prices()


def record(**change: object) -> dict[str, object]:
    base: dict[str, object] = {
        "schema": "skyfan.rank-record/1",
        "wall_s": 10.0,
        "compute_s": 8.0,
        "s3_num_requests": 4,
        "peak_rss_bytes": 2**30,
        "threads": 2,
    }
    return base | change


def test_three_ranks_and_one_retry():
    usage = usage_of_ranks(rank_times([record(), record(wall_s=12.0), record(wall_s=20.0)]), attempts=4)
    assert [invocation.billed_s for invocation in usage.invocations] == [10.0, 12.0, 20.0, 12.0]
    assert usage.transitions == 4 + 2 * 3 + 1 == pipeline_transitions(3, retries=1)
    assert usage.s3_puts == 5 + 2 * 3
    assert usage.s3_gets == 4 * 3 + 2 * 3
    found = {item.name: item.usd for item in bill(usage, PRICES).items}
    assert found["Lambda compute"] == pytest.approx(54.0 * 10 * 0.0000166667)


def test_the_references_profiler_seconds_are_not_billed():
    with pytest.raises(BadInput, match="profiler seconds"):
        rank_times([{"total_cpu_time (seconds)": 22.0}])
    with pytest.raises(BadInput, match="no rank record"):
        rank_times([])


def test_processors_of_a_memory_size():
    assert vcpus(1769) == 1.0
    assert vcpus(884.5) == 0.5
    assert vcpus(10_240) == pytest.approx(5.788, abs=0.001)


def test_compare_scales_compute_only_and_says_what_fits():
    rank = RankTime(wall_s=10.0, compute_s=8.0, requests=0, peak_rss_mb=2000, vcpus=1.0)
    options = compare([rank], PRICES, memory_mb=(1769, 3538), parallel_share=1.0, architectures=("x86_64", "arm64"))
    small, large, small_arm, _ = options
    assert small.rank_s == pytest.approx(10.0)
    assert large.rank_s == pytest.approx(2.0 + 8.0 / 2)
    assert (small.fits, large.fits) == (False, True)  # 1.2 × 2,000 MB
    assert small_arm.bill.total_usd < small.bill.total_usd
    assert small_arm.rank_s == small.rank_s
