"""Ranks in containers reach each other: as processes of one, as a container each, and in a run."""

import re

import pytest

from tests.containers.conftest import JOB, Inputs, assert_same, finished
from tests.containers.stack import Stack

pytestmark = pytest.mark.docker

LATENCY = re.compile(r"^deployment latency: \d+\.\d+ s\s*$", re.MULTILINE)
CHECK = ("run", "--rm", "--no-deps", "driver", "comm", "check")


@pytest.mark.parametrize("channel", ["relay", "direct", "store"])
def test_eight_ranks_in_a_container_need_no_further_option(stack: Stack, channel: str) -> None:
    printed = stack.compose(*CHECK, "--world-size", "8", "--channel", channel)
    assert LATENCY.search(printed), printed


@pytest.mark.parametrize("channel", ["relay", "direct", "store"])
def test_a_container_a_rank(stack: Stack, channel: str) -> None:
    stack.executors(2)
    printed = stack.compose(*CHECK, "--on", "compose", "--world-size", "2", "--channel", channel)
    assert LATENCY.search(printed), printed


def test_ranks_of_a_job_meet_at_the_rendezvous_container(stack: Stack, inputs: Inputs) -> None:
    stack.executors(2)
    output = "s3://skyfan-results/together"
    logs = stack.start_job(output, *JOB, "--world-size=2", "--collectives").wait()
    found = finished(output)
    assert_same(found, inputs)
    assert found.summary.collectives, logs
    assert (found.summary.collectives.channel, found.summary.collectives.complete) == ("relay", 2)


def test_more_ranks_than_executors_are_refused(stack: Stack) -> None:
    stack.executors(2)
    run = stack.start_job("s3://skyfan-results/too-many", *JOB, "--world-size=3", "--collectives")
    assert run.container.wait(timeout=120)["StatusCode"] == 2
    assert "needs all 3 ranks of this run at once, and only 2 can run here" in " ".join(run.logs().split())
    run.container.remove()
