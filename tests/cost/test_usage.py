"""From rank records to a bill."""

import pytest

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB
from skyfan.cost import (
    bill,
    load_prices,
    pipeline_transitions,
    priced_region,
    rank_times,
    recorded_region,
    usage_of_ranks,
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
    assert usage.transitions == 11 + 2 * 3 + 1 == pipeline_transitions(3, retries=1)
    assert usage.s3_puts == 5 + 2 * 3
    assert usage.s3_gets == 4 * 3 + 2 * 3
    found = {item.name: item.usd for item in bill(usage, PRICES).items}
    assert found["Lambda compute"] == pytest.approx(54.0 * 10 * 0.0000166667)


def test_ranks_on_batch_are_hours_of_tasks_and_no_invocations():
    """Two ranks of half an hour: 4 vCPUs and 8 GB for an hour."""
    ranks = rank_times([record(wall_s=1800.0), record(wall_s=1800.0)])
    found = {item.name: item.usd for item in bill(usage_of_ranks(ranks, compute="batch"), PRICES).items}
    assert found["Fargate vCPU"] == pytest.approx(4 * 0.04048)
    assert found["Fargate memory"] == pytest.approx(8 * 0.004445)
    assert found["Lambda compute"] == found["Lambda requests"] == 0
    assert found["Step Functions transitions"] == pytest.approx(11 * 0.000025)


@pytest.mark.parametrize(
    ("compute", "line", "usd"), [("batch-gpu", "g5.xlarge", 1.006 + 0.005), ("sagemaker", "ml.c5.4xlarge", 0.816)]
)
def test_ranks_on_instances_are_hours_of_the_usual_type(compute, line, usd):
    usage = usage_of_ranks(rank_times([record(wall_s=3600.0)]), compute=compute)
    found = {item.name: item.usd for item in bill(usage, PRICES).items}
    assert found[f"Instances {line}"] == pytest.approx(usd)
    assert found["Fargate vCPU"] == found["Lambda compute"] == 0


def test_the_references_profiler_seconds_are_not_billed():
    with pytest.raises(BadInput, match="profiler seconds"):
        rank_times([{"total_cpu_time (seconds)": 22.0}])
    with pytest.raises(BadInput, match="no rank record"):
        rank_times([])


def test_ranks_of_lambda_are_billed_with_their_own_memory_architecture_and_region():
    on_lambda = record(memory_mb=3008, architecture="arm64", region="eu-west-1", log_stream="a")
    larger = {**on_lambda, "memory_mb": 2048}  # the function was resized between two starts of the run
    ranks = rank_times([on_lambda, on_lambda, larger])
    assert recorded_region(ranks) == "eu-west-1"
    found = {item.name: item.usd for item in bill(usage_of_ranks(ranks, attempts=4), PRICES).items}
    gb_s = 10.0 * (3008 + 3008 + 2048 + 3008) / 1024  # the attempt without a record: as most ranks
    assert found["Lambda compute"] == pytest.approx(gb_s * 0.0000133334)
    asked = usage_of_ranks(ranks, memory_mb=1024, architecture="x86_64")
    found = {item.name: item.usd for item in bill(asked, PRICES).items}
    assert found["Lambda compute"] == pytest.approx(30.0 * 0.0000166667)


def test_ranks_elsewhere_are_billed_with_the_largest_memory():
    usage = usage_of_ranks(rank_times([record()]))
    assert (usage.memory_mb, usage.architecture) == (LAMBDA_MAX_MEMORY_MB, "x86_64")
    assert recorded_region(rank_times([record()])) is None
    assert priced_region(PRICES, "mars-north-1") == "us-east-1"
