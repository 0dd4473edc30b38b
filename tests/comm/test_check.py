"""`skyfan comm check`: separate processes, a table or JSON, and nothing left running."""

import json
import re
import subprocess
import sys

import pytest

from skyfan.comm.check_messages import RankCheck
from skyfan.comm.check_rank import check_rank
from tests.comm.worlds import TOKEN, run_threads

COMMAND = [sys.executable, "-m", "skyfan.cli", "comm", "check"]
COLLECTIVES = {"barrier", "bcast", "gather", "allgather", "scatter", "reduce", "allreduce", "scan"}


def test_every_rank_reports_and_rank_0_has_the_measurements(server):
    def work(rank):
        return check_rank(
            RankCheck(
                rank=rank,
                world_size=3,
                run="check-in-threads",
                channel="relay",
                rendezvous=server.address,
                token=TOKEN,
                budget_s=0.5,
            )
        )

    reports = run_threads(3, work)
    assert [report.rank for report in reports] == [0, 1, 2]
    assert {each.name for each in reports[0].collectives} == COLLECTIVES
    assert reports[0].ping_pong[0].size_bytes == 8
    assert reports[1].ping_pong == reports[2].collectives == []


@pytest.mark.slow
@pytest.mark.parametrize("channel", ["direct", "relay", "store"])
def test_check_needs_no_further_option(channel):
    done = subprocess.run(
        [*COMMAND, "--world-size", "4", "--channel", channel], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^deployment latency: \d+\.\d+ s$", done.stdout, re.MULTILINE)
    assert all(name in done.stdout for name in COLLECTIVES)
    assert f"{channel} was asked for" in done.stderr


@pytest.mark.slow
def test_check_prints_json():
    done = subprocess.run([*COMMAND, "--world-size", "2", "--json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["channel"] == "direct"
    assert found["deployment_latency_s"] > 0
    assert found["ping_pong"][0]["size_bytes"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channel", "pigeon"], "--channel 'pigeon' is unknown"),
        (["--rank", "0"], "--rank needs --run"),
        (["--world-size", "65"], "more than one machine"),
    ],
)
def test_bad_options_are_named(options, message):
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
