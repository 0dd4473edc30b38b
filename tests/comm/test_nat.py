"""Hole punching through two real NATs, and the fallback where it cannot work."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skyfan.comm.check_messages import RankCheck, RankReport
from tests.comm.netns import PUBLIC_V4, PUBLIC_V6, Network, two_nats
from tests.comm.worlds import TOKEN

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def rendezvous(network: Network) -> Iterator[None]:
    command = [sys.executable, "-m", "services.rendezvous", "--address", "[::]:50054", "--observer-port", "50055"]
    server = subprocess.Popen(
        network.inside(network.public, *command, "--announce"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["port"] == 50054
        yield
    finally:
        server.communicate(timeout=30)


def check_pair(network: Network, address: str, channel: str = "direct") -> list[RankReport]:
    """One rank on each host."""
    ranks = []
    for rank, host in enumerate((network.host_a, network.host_b)):
        work = RankCheck(
            rank=rank, world_size=2, run="nat", channel=channel, rendezvous=address, token=TOKEN, budget_s=1.0
        )
        process = subprocess.Popen(
            network.inside(host, sys.executable, "-m", "skyfan.comm.check_rank"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ranks.append((process, work.model_dump_json()))
    for process, work_json in ranks:
        assert process.stdin is not None
        process.stdin.write(work_json)
        process.stdin.close()
        process.stdin = None
    reports = []
    for process, _ in ranks:
        output, complaint = process.communicate(timeout=90)
        assert process.returncode == 0, complaint
        reports.append(RankReport.model_validate_json(output))
    return reports


@pytest.mark.parametrize("server_address", [f"{PUBLIC_V4}:50054", f"[{PUBLIC_V6}]:50054"])
def test_two_ranks_behind_two_nats_connect_directly(server_address):
    with two_nats(symmetric=False) as network, rendezvous(network):
        reports = check_pair(network, server_address)
    assert [set(report.paths.values()) for report in reports] == [{"direct"}, {"direct"}]
    assert {each.name for each in reports[0].collectives} >= {"barrier", "allreduce"}


def test_symmetric_nats_cannot_be_punched_and_the_pair_is_relayed():
    with two_nats(symmetric=True) as network, rendezvous(network):
        reports = check_pair(network, f"{PUBLIC_V4}:50054")
    assert [set(report.paths.values()) for report in reports] == [{"relay"}, {"relay"}]
    assert {each.name for each in reports[0].collectives} >= {"barrier", "allreduce"}
