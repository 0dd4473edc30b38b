"""A rank's membership: what the server tells is heard whenever it comes."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from skyfan import comm
from skyfan.comm.group_membership import GroupMembership
from skyfan.comm.peer_monitor import PeerMonitor
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc
from tests.comm.worlds import TOKEN

PATIENCE_S = 60.0


class Script(pb_grpc.RendezvousServicer):
    """Tells the rank that joins these events at once, one after the other, and then nothing more."""

    def __init__(self, *events: pb.MemberEvent) -> None:
        self._events, self.ending = events, threading.Event()

    def JoinGroup(self, requests, context):  # noqa: N802 (gRPC's name)
        next(requests)
        yield from self._events
        context.add_callback(self.ending.set)
        self.ending.wait(PATIENCE_S)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    pb_grpc.add_RendezvousServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        script.ending.set()
        server.stop(None)


def test_a_loss_that_comes_before_the_rank_has_taken_the_last_answer_is_heard():
    terms = pb.GroupTerms(run="r", name="main", world_size=3, channel="direct", token=TOKEN)
    terms.join_deadline_s = terms.heartbeat_timeout_s = PATIENCE_S
    monitor = PeerMonitor()
    script = Script(
        pb.MemberEvent(joined=pb.Joined(member_key="k", session="s")),
        pb.MemberEvent(full=pb.Full()),
        pb.MemberEvent(lost=pb.RankLost(rank=2, reason="rank 2 was lost.")),
    )
    with serving(script) as address:
        membership = GroupMembership(address, terms, 0, monitor, time.monotonic() + PATIENCE_S)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while monitor.failure(needs_server=False) is None:  # the rank is slow: all three have come meanwhile
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(comm.PeerLost, match="rank 2 was lost"):
                [membership.expect(kind, time.monotonic() + 5) for kind in ("full", "paths")]
        finally:
            membership.disconnect()
            monitor.waker.close()
