"""The channels as users get them: through a rendezvous server on loopback, or through a store."""

import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from skyfan import comm, store
from skyfan.comm.store_layout import StoreLayout
from skyfan.errors import LocationError
from tests.comm.expected import check_all
from tests.comm.worlds import TOKEN, run_group, run_threads

pytestmark = pytest.mark.slow

SIZES = {"relay": range(1, 18), "direct": range(1, 18), "store": [*range(1, 10), 17]}  # a store takes 20 s from ten on
WORLDS = [(channel, size) for channel, sizes in SIZES.items() for size in sizes]
SHAPES = [(), (7, 3), (5000,)]


@pytest.mark.parametrize(("channel_options", "world_size"), WORLDS, indirect=["channel_options"])
def test_every_channel_gives_what_numpy_gives(channel_options, world_size):
    results = run_group(world_size, lambda ranks: check_all(ranks, SHAPES), timeout_s=100.0, **channel_options)
    assert results == [True] * world_size


@pytest.mark.parametrize("channel_options", ["relay", "direct", "store"], indirect=True)
def test_large_messages_and_reductions_pass(channel_options):
    def work(ranks):
        array = np.arange(1_500_000, dtype=np.float64)  # 12 MB: three times the relay's window
        if ranks.rank == 0:
            ranks.send(array, 2, tag=5)
        if ranks.rank == 2:
            assert np.array_equal(ranks.recv(0, tag=5), array)
        return float(ranks.allreduce(array)[-1])

    assert run_group(3, work, **channel_options) == [3 * 1_499_999.0] * 3


@pytest.mark.parametrize("channel_options", ["relay", "direct", "store"], indirect=True)
def test_nothing_is_left_behind(channel_options, tmp_path, server):
    before_fds = len(list(Path("/proc/self/fd").iterdir()))
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(3):
        run_group(3, lambda ranks: ranks.barrier(), **channel_options)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("skyfan-comm")]
    assert left == [], before
    assert server.server.registry.group_count == 0
    assert server.server.registry.member_count == 0
    assert server.server.registry.queued.used_bytes == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before_fds + 8  # gRPC keeps a few of its own


def test_direct_pairs_are_direct_on_one_machine(server):
    results = run_group(4, lambda ranks: ranks.paths, channel="direct", rendezvous=server.address)
    assert [set(paths.values()) for paths in results] == [{"direct"}] * 4


def test_a_message_sent_just_before_leaving_arrives(server):
    def work(ranks):
        if ranks.rank == 0:
            ranks.send(np.full(500_000, 3.0), 1)
            return 3.0
        threading.Event().wait(0.3)
        return float(ranks.recv(0)[-1])

    for channel in ("relay", "direct"):
        assert run_group(2, work, channel=channel, rendezvous=server.address) == [3.0, 3.0]


def test_groups_of_one_name_in_two_runs_do_not_mix(server):
    runs = [uuid.uuid4().hex, uuid.uuid4().hex]

    def work(index):
        run, rank = runs[index % 2], index // 2
        with comm.connect(
            rank, 3, run=run, group="main", channel="relay", rendezvous=server.address, token=TOKEN
        ) as ranks:
            return ranks.allgather(run.encode())

    results = run_threads(6, work)
    for index, found in enumerate(results):
        assert found == [runs[index % 2].encode()] * 3


def test_a_rank_that_gives_up_is_named_with_its_reason(server):
    def work(rank, run):
        with comm.connect(rank, 3, run=run, channel="direct", rendezvous=server.address, token=TOKEN) as ranks:
            if rank == 1:
                raise ValueError("the weights are not there")
            ranks.barrier(timeout_s=20)

    run = uuid.uuid4().hex
    errors = []

    def quiet(rank):
        try:
            work(rank, run)
        except (comm.PeerLost, ValueError) as error:
            errors.append(error)

    run_threads(3, quiet)
    lost = [error for error in errors if isinstance(error, comm.PeerLost)]
    assert [error.rank for error in lost] == [1, 1]
    assert all("the weights are not there" in str(error) for error in lost)


@pytest.mark.parametrize("channel", ["relay", "store"])
def test_a_group_that_does_not_fill_names_who_is_missing(server, tmp_path, channel):
    options = {"rendezvous": server.address} if channel == "relay" else {"store": str(tmp_path)}
    run, together = uuid.uuid4().hex, threading.Barrier(2)

    def work(rank):
        together.wait(60)  # who joins after the other's time is missing, too
        with pytest.raises(comm.GroupIncomplete, match=r"ranks 1, 3 did not join"):
            comm.connect(2 * rank, 4, run=run, channel=channel, token=TOKEN, join_timeout_s=5.0, **options)

    run_threads(2, work)


def test_two_processes_with_one_rank_in_a_store_are_refused(tmp_path):
    run, together = uuid.uuid4().hex, threading.Barrier(2)

    def work(rank):
        together.wait(60)  # who joins after the other has given up is not refused
        try:
            comm.connect(0, 2, run=run, channel="store", store=str(tmp_path), join_timeout_s=5.0).close()
        except (comm.GroupRefused, comm.GroupIncomplete) as error:
            return type(error)

    assert set(run_threads(2, work)) == {comm.GroupRefused, comm.GroupIncomplete}


def test_ranks_of_another_world_size_in_a_store_are_refused(tmp_path):
    run, together = uuid.uuid4().hex, threading.Barrier(2)

    def work(rank):
        together.wait(60)
        with pytest.raises((comm.GroupRefused, comm.GroupIncomplete)) as caught:
            comm.connect(rank, 2 + rank, run=run, channel="store", store=str(tmp_path), join_timeout_s=5.0)
        return str(caught.value)

    assert any("world size" in message for message in run_threads(2, work))


def test_an_unreachable_server_is_named():
    with pytest.raises(comm.RendezvousLost, match=r"127.0.0.1:9 cannot be reached"):
        comm.connect(0, 1, run="r", channel="relay", rendezvous="127.0.0.1:9", token=TOKEN, join_timeout_s=0.5)


def test_a_short_token_is_refused(server):
    with pytest.raises(comm.GroupRefused, match="at least 16 characters"):
        comm.connect(0, 1, run="r", channel="relay", rendezvous=server.address, token="short")


def test_a_rank_whose_heartbeats_cannot_be_written_fails_by_that_error(tmp_path):
    run = uuid.uuid4().hex
    group = tmp_path / "comm" / run / "main"
    group.mkdir(parents=True)
    (group / "status").write_text("a file where heartbeats should go")
    with pytest.raises(LocationError, match="a part of its path is a file"):
        run_group(
            2, lambda ranks: ranks.recv(1 - ranks.rank), run, channel="store", store=str(tmp_path), timeout_s=20.0
        )


def test_a_rank_that_sends_only_now_and_then_names_a_dead_one_in_a_store(tmp_path):
    """Each time nothing was read for longer than the heartbeat's time-out, in which both may have been stopped."""
    run, sent = uuid.uuid4().hex, []
    dead = StoreLayout(str(tmp_path), run, "main", 1, 2)
    store.put_new(dead.member_uri, b"joined")
    store.put(dead.status_uri(1, "alive"), b"1")

    def work():
        with comm.connect(0, 2, run=run, channel="store", store=str(tmp_path), heartbeat_timeout_s=0.5) as ranks:
            for number in range(10):
                time.sleep(0.75)
                ranks.send(b"", 1)
                sent.append(number)

    with pytest.raises(comm.PeerLost, match="rank 1 was lost: no sign of life"):
        work()
    assert sent
