"""Ranks that die, freeze or dawdle, and a server that goes away: nobody hangs, and the culprit is named."""

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from skyfan.serving.embedded_rendezvous import EmbeddedServer
from tests.comm.faulty_rank import OPERATIONS
from tests.comm.worlds import TOKEN

pytestmark = pytest.mark.slow

VICTIM = 2
WORLD_SIZE = 4
DEADLINE_S = 60.0
# A rank is silent for seconds where the machine is busy, and a heartbeat in a store waits for the disk.
HEARTBEAT_S = 6.0


class Rank:
    """A rank's process and what it said."""

    def __init__(self, work: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.comm.faulty_rank"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(work) + "\n")
        self.process.stdin.flush()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line with this event."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(f"the rank ended without saying {event!r}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def ranks_running(options: dict[str, Any], operation: str, **work: Any) -> Iterator[list[Rank]]:
    times = {"timeout_s": DEADLINE_S, "heartbeat_timeout_s": HEARTBEAT_S}
    given = {"run": uuid.uuid4().hex, "token": TOKEN} | times | options
    common = {"victim": VICTIM, "fails_at": 5, "fault": "kill", "repeat": 1_000_000, "elements": 30_000} | work
    ranks: list[Rank] = []
    try:
        work = {"world_size": WORLD_SIZE, "options": given, "operation": operation, **common}
        ranks.extend(Rank({"rank": rank, **work}) for rank in range(WORLD_SIZE))
        yield ranks
    finally:
        for rank in ranks:
            rank.end()


def require_all_name_the_victim(ranks: list[Rank]) -> None:
    ranks[VICTIM].wait_for("faulting")
    since = time.monotonic()
    for number, rank in enumerate(ranks):
        if number != VICTIM:
            failed = rank.wait_for("failed")
            assert (failed["kind"], failed["rank"]) == ("PeerLost", VICTIM), failed
    assert time.monotonic() - since < DEADLINE_S


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channel_options", ["direct", "relay"], indirect=True)
def test_a_killed_rank_is_named_by_all_others_in_every_operation(channel_options, operation, server):
    with ranks_running(channel_options, operation) as ranks:
        require_all_name_the_victim(ranks)
        for number, rank in enumerate(ranks):
            if number != VICTIM:
                assert rank.process.wait(60) == 0
    wait_until_empty(server)


@pytest.mark.parametrize("operation", ["barrier", "bcast", "allreduce"])
@pytest.mark.parametrize("channel_options", ["store"], indirect=True)
def test_a_killed_rank_is_named_in_a_store_and_its_objects_are_deleted(channel_options, operation, tmp_path):
    with ranks_running(channel_options, operation, elements=100) as ranks:
        require_all_name_the_victim(ranks)
        for number, rank in enumerate(ranks):
            if number != VICTIM:
                assert rank.process.wait(60) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("operation", ["barrier", "bcast"])
@pytest.mark.parametrize("channel_options", ["store"], indirect=True)
def test_a_rank_killed_before_its_first_heartbeat_is_named_in_a_store(channel_options, operation):
    with ranks_running(channel_options, operation, fault="kill before heartbeat", elements=100) as ranks:
        require_all_name_the_victim(ranks)


@pytest.mark.parametrize("channel_options", ["direct", "relay", "store"], indirect=True)
def test_a_frozen_rank_whose_connections_stay_open_is_named(channel_options):
    with ranks_running(channel_options, "allreduce", fault="stop", elements=1000) as ranks:
        require_all_name_the_victim(ranks)


@pytest.mark.parametrize("channel_options", ["direct", "relay", "store"], indirect=True)
def test_slow_ranks_are_waited_for(channel_options):
    pause_s = 0.75 * HEARTBEAT_S
    with ranks_running(channel_options, "allreduce", repeat=3, pause_s=pause_s, victim=-1, elements=1000) as ranks:
        for rank in ranks:
            assert rank.process.wait(60) == 0


def test_a_server_that_goes_away_ends_relayed_groups():
    with contextlib.ExitStack() as stack:
        server = EmbeddedServer()
        server.__enter__()
        options = {"channel": "relay", "rendezvous": server.address}
        ranks = stack.enter_context(ranks_running(options, "allreduce", victim=-1, elements=1000, pause_s=0.05))
        for rank in ranks:
            rank.wait_for("running")
        server.__exit__(None, None, None)
        for rank in ranks:
            failed = rank.wait_for("failed")
            assert failed["kind"] in ("RendezvousLost", "PeerLost"), failed


def test_a_restarted_server_does_not_know_the_group_and_direct_groups_go_on():
    with contextlib.ExitStack() as stack:
        server = EmbeddedServer()
        server.__enter__()
        options = {"channel": "direct", "rendezvous": server.address}
        ranks = stack.enter_context(
            ranks_running(options, "allreduce", victim=-1, repeat=30, elements=1000, pause_s=0.1)
        )
        for rank in ranks:
            rank.wait_for("running")
        port = server.server.port
        server.__exit__(None, None, None)
        stack.enter_context(EmbeddedServer(port=port))
        for rank in ranks:
            assert rank.process.wait(60) == 0
            assert rank.process.stdout is not None
            assert "failed" not in rank.process.stdout.read()


def wait_until_empty(server: EmbeddedServer) -> None:
    """The server hears of the end of a rank's relay by itself, after or before that of its membership."""
    registry, deadline = server.server.registry, time.monotonic() + 60
    while time.monotonic() < deadline and (registry.member_count or registry.queued.used_bytes):
        time.sleep(0.05)
    assert registry.member_count == registry.group_count == 0
    assert registry.queued.used_bytes == 0
