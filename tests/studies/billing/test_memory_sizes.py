"""The same ranks at other memory sizes."""

import pytest

from skyfan.cost import RankTime, load_prices
from skyfan.studies.billing.memory_sizes import compare, vcpus

PRICES = load_prices()


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
