"""A connection that ended, as a rank sees it that waits for another one."""

import socket
import threading
from collections.abc import Iterator

import pytest

from skyfan import comm
from skyfan.comm.communicator import Communicator
from skyfan.comm.peer_monitor import PeerMonitor
from skyfan.comm.stream import StreamChannel


class Waiting:
    """Rank 1 of three: the ends that ranks 0 and 2 have of its connections, and what it has been told of them."""

    def __init__(self) -> None:
        self.monitor = PeerMonitor()
        self.of_0, self.of_2 = socket.socketpair(), socket.socketpair()
        ours = {0: self.of_0[0], 2: self.of_2[0]}
        self.ranks = Communicator(StreamChannel("local", 1, 3, ours, self.monitor), "test", timeout_s=60)
        theirs = StreamChannel("local", 2, 3, {1: self.of_2[1]}, PeerMonitor())
        self.rank_2 = Communicator(theirs, "test", timeout_s=60)

    def close(self) -> None:
        self.ranks.close()
        self.rank_2.close()
        self.of_0[1].close()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    found = Waiting()
    yield found
    found.close()


def test_without_a_server_a_rank_that_ends_costs_nobody_who_waits_for_another(waiting):
    """Whether it left in order, nobody can tell any more."""
    waiting.monitor.server_gone("the server is gone.")
    waiting.of_0[1].close()
    late = threading.Timer(0.5, waiting.rank_2.send, (b"late", 1))
    late.start()
    assert waiting.ranks.recv(2) == b"late"
    late.join(60)
    with pytest.raises(comm.PeerLost, match="rank 0 was lost"):
        waiting.ranks.recv(0)


@pytest.mark.slow
def test_a_rank_that_left_in_order_is_no_loss_where_the_server_tells_it_late(waiting):
    """As on a busy machine: the thread that hears the server runs seconds after the connection has ended."""
    waiting.of_0[1].close()
    told = threading.Timer(1.5, waiting.monitor.peer_left, (0,))
    late = threading.Timer(1.8, waiting.rank_2.send, (b"late", 1))
    for timer in (told, late):
        timer.start()
    assert waiting.ranks.recv(2) == b"late"
    for timer in (told, late):
        timer.join(60)
