"""A job in containers, undisturbed and disturbed: the same predictions, every sample once."""

import time

import pytest

from tests.containers.conftest import JOB, SAMPLES, SAMPLES_A_RANK, Inputs, assert_same, finished
from tests.containers.stack import Stack, log_lines

pytestmark = pytest.mark.docker

RANKS = SAMPLES // SAMPLES_A_RANK
# The slower engine, so that a rank takes long enough for a fault to hit it.
SLOW_JOB = (*JOB, "--engine=torch")


def test_a_job_in_containers_predicts_what_one_process_predicts_and_logs_it_as_a_story(
    stack: Stack, inputs: Inputs
) -> None:
    output = "s3://skyfan-results/plain"
    run = stack.start_job(output, *JOB)
    started_at = run.started_at
    logs = run.wait()

    found = finished(output)
    assert_same(found, inputs)
    assert found.summary.attempts == len(found.records) == RANKS
    assert {record.attempt for record in found.records.values()} == {1}
    assert len({record.host for record in found.records.values()}) == 2
    assert {record.engine for record in found.records.values()} == {"openvino"}
    assert "samples predicted" in logs
    lines = [
        line
        for name in ("executor", "aggregator", "partitioner")
        for c in stack.containers(name)
        for line in log_lines(c)
    ]
    lines = [line for line in lines if line["timestamp"] > started_at]
    assert {line["service"] for line in lines} == {"executor", "aggregator", "partitioner"}
    told = [line for line in lines if line.get("run_id") == found.plan.run_id]
    assert sorted(line["rank"] for line in told if line["event"] == "rank committed") == list(range(RANKS))
    assert [line["event"] for line in told if line["service"] == "aggregator"] == ["aggregated"]


def test_an_executor_that_is_killed_in_mid_rank_costs_one_more_attempt(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/killed"
    run = stack.start_job(output, *SLOW_JOB)
    victim, rank = stack.freeze_in_mid_rank(run, output)
    victim.kill()
    run.wait()

    found = finished(output)
    assert_same(found, inputs)
    assert found.records[rank].attempt == 2
    assert found.summary.attempts == RANKS + 1


def test_an_executor_that_stands_still_for_20_s_is_waited_for(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/paused"
    run = stack.start_job(output, *SLOW_JOB)
    victim, rank = stack.freeze_in_mid_rank(run, output)
    time.sleep(20)
    assert run.running()
    victim.unpause()
    run.wait()

    found = finished(output)
    assert_same(found, inputs)
    assert found.records[rank].attempt == 1
    assert found.records[rank].wall_s > 19


def test_an_executor_that_loses_the_network_is_replaced(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/disconnected"
    run = stack.start_job(output, *SLOW_JOB)
    victim, rank = stack.freeze_in_mid_rank(run, output)
    stack.network.disconnect(victim)
    victim.unpause()
    run.wait()
    victim.remove(force=True)

    found = finished(output)
    assert_same(found, inputs)
    assert found.records[rank].attempt == 2
    assert found.summary.attempts == RANKS + 1


def test_executors_that_come_later_take_part(stack: Stack, inputs: Inputs) -> None:
    stack.executors(1)
    output = "s3://skyfan-results/scaled"
    run = stack.start_job(output, *SLOW_JOB)
    stack.busy_executor(run)
    stack.executors(3)
    run.wait()

    found = finished(output)
    assert_same(found, inputs)
    assert len({record.host for record in found.records.values()}) > 1
    assert {record.attempt for record in found.records.values()} == {1}


def test_the_aggregator_may_restart_between_ranks(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/restarted"
    run = stack.start_job(output, *SLOW_JOB)
    stack.busy_executor(run)
    stack.compose("restart", "aggregator")
    run.wait()

    assert_same(finished(output), inputs)


def test_a_driver_that_is_killed_and_started_again_continues_where_it_was(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/resumed"
    first = stack.start_job(output, *SLOW_JOB)
    while '"event": "rank done"' not in first.logs():
        assert first.running()
        time.sleep(0.1)
    first.container.kill()
    first.container.remove()
    stack.start_job(output, *SLOW_JOB).wait()

    found = finished(output)
    assert_same(found, inputs)
    assert 1 <= found.summary.reused_ranks < RANKS
