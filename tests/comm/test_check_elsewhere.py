"""`skyfan comm check` with executors as ranks: those behind compose's name, or a deployed pipeline's functions."""

import json
import subprocess
import sys
from contextlib import ExitStack

import pytest

from skyfan.backends.comm_check import MAX_FUNCTIONS, check_event, check_in_containers, check_in_functions
from skyfan.backends.compose import ComposeServices
from skyfan.comm.check_messages import RankCheck
from skyfan.errors import BadInput, LocationError

pytestmark = pytest.mark.slow

TOKEN = "the token of these groups"


@pytest.fixture(scope="module")
def executors():
    """Two executors as processes of their own; their addresses."""
    command = [sys.executable, "-m", "services.executor", "--announce", "--address", "127.0.0.1:0"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
            for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.terminate)
        yield {f"127.0.0.1:{json.loads(process.stdout.readline())['port']}" for process in processes}


@pytest.fixture
def stack(executors, monkeypatch):
    """The executors where compose's name would lead to them."""

    async def addresses(target):
        return executors

    monkeypatch.setenv("SKYFAN_PARTITIONER", "127.0.0.1:1")  # whose name says that this is compose's network
    monkeypatch.setattr(ComposeServices, "executor_addresses", addresses)


def work(channel, **changes):
    fields = {"rank": 0, "world_size": 2, "run": f"elsewhere-{channel}", "channel": channel, "token": TOKEN}
    return RankCheck.model_validate(fields | {"budget_s": 1.0, "join_timeout_s": 20} | changes)


@pytest.mark.parametrize("channel", ["relay", "direct", "store"])
def test_every_executor_is_a_rank(stack, server, tmp_path, monkeypatch, channel):
    monkeypatch.setenv("SKYFAN_RENDEZVOUS", server.address)
    reports = check_in_containers(work(channel, store=str(tmp_path) if channel == "store" else None), 120)
    assert [(report.rank, report.channel) for report in reports] == [(0, channel), (1, channel)]
    assert reports[0].ping_pong[0].size_bytes == 8
    assert set(reports[0].paths.values()) == {channel}


def test_fewer_executors_than_ranks_are_refused_with_the_line_to_type(stack):
    with pytest.raises(BadInput, match=r"needs as many executors, and 2 answer: EXECUTORS=3 docker compose up"):
        check_in_containers(work("relay", world_size=3), 20)


def test_the_error_of_a_rank_is_raised(stack):
    with pytest.raises(LocationError, match=r"s3://nowhere\.invalid"):
        check_in_containers(work("store", store="s3://nowhere.invalid/x", join_timeout_s=1), 60)


def test_an_event_never_has_the_groups_secret():
    assert TOKEN not in json.dumps(check_event(work("relay", rendezvous="host:1")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "--on aws needs a way for functions to exchange messages: --rendezvous .* or --store"),
        ({"store": "s3://b/runs/c", "world_size": MAX_FUNCTIONS + 1}, "--world-size 257 is more than"),
        ({"rendezvous": "host:1"}, "--on aws takes no --token .* which an event must not carry"),
    ],
)
def test_what_functions_need_is_said_before_any_is_started(changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        check_in_functions(work("auto", **changes), "aws", "skyfan-pipeline", 10)
