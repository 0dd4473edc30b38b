"""What the summary derives from rank records."""

import threading

import pytest

from skyfan.errors import Interrupted
from skyfan.stages.aggregate import aggregate, count_hosts, estimate_cost
from skyfan.stages.messages import AggregateRequest
from tests.e2e.support import make_job, run
from tests.report.runs import make_record

REQUEST = AggregateRequest(output="runs/x", run_id="0" * 16, target="aws")


def test_sandboxes_that_share_a_host_name_are_counted_by_their_log_streams():
    ranks = tuple(make_record(rank, host="169.254.0.1", log_stream=f"stream-{rank % 2}") for rank in range(4))
    assert count_hosts(ranks) == 2
    assert count_hosts(tuple(make_record(rank, host="node-1") for rank in range(4))) == 1


def test_the_cost_of_the_summary_is_for_the_recorded_function():
    small = estimate_cost((make_record(0, memory_mb=3008, architecture="arm64", region="us-east-1"),), REQUEST)
    largest = estimate_cost((make_record(0),), REQUEST)
    assert small is not None
    assert largest is not None
    assert "3008 MB (arm64), prices of us-east-1" in small.basis
    compute = "Lambda compute"
    expected = largest.items_usd[compute] * 3008 / 10_240 * 0.0000133334 / 0.0000166667
    assert small.items_usd[compute] == pytest.approx(expected)


def test_the_cost_of_the_summary_counts_the_attempts_of_ranks_that_are_reused():
    once, again = (estimate_cost((make_record(0, attempt=attempt),), REQUEST) for attempt in (1, 3))
    assert once is not None
    assert again is not None
    assert again.items_usd["Lambda requests"] == pytest.approx(3 * once.items_usd["Lambda requests"])


def test_a_region_without_prices_does_not_fail_the_summary():
    cost = estimate_cost((make_record(0, memory_mb=3008, region="mars-north-1"),), REQUEST)
    assert cost is not None
    assert "prices of us-east-1" in cost.basis


@pytest.mark.slow
def test_a_caller_that_goes_leaves_no_summary(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run")
    summary = run(job)
    (tmp_path / "run/summary.json").unlink()
    gone = threading.Event()
    gone.set()
    with pytest.raises(Interrupted):
        aggregate(AggregateRequest(output=job.output, run_id=summary.run_id, target="local"), gone)
    assert not (tmp_path / "run/summary.json").exists()
