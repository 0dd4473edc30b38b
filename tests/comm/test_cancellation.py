"""A rank that is stopped while it waits for others ends with `Interrupted`, and the others are told which rank it was.

Deadlines are a minute: a wait that did not look at its event would end with `CommTimeout` or `GroupIncomplete`.
"""

import threading
import uuid

import numpy as np
import pytest

from skyfan import comm
from skyfan.errors import Interrupted, SkyfanError
from tests.comm.worlds import TOKEN, run_threads

pytestmark = pytest.mark.slow

STOPPED = 1
WAITS = {
    "barrier": lambda ranks: ranks.barrier(),
    "allreduce": lambda ranks: ranks.allreduce(np.ones(1000)),
    "large allreduce": lambda ranks: ranks.allreduce(np.ones(1_000_000)),
    "recv": lambda ranks: ranks.recv(2),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("channel_options", ["relay", "direct", "store"], indirect=True)
def test_a_rank_stopped_while_it_waits_ends_and_the_others_name_it(channel_options, wait):
    run, cancelled, connected = uuid.uuid4().hex, threading.Event(), threading.Barrier(3)

    def work(rank):
        event = cancelled if rank == STOPPED else None
        try:
            with comm.connect(rank, 3, run=run, token=TOKEN, cancelled=event, **channel_options) as ranks:
                connected.wait(60)  # one that is stopped before it is connected is lost without a reason
                if rank == 0:
                    threading.Timer(0.3, cancelled.set).start()
                if rank == 2:  # which the stopped rank waits for
                    ranks.recv(STOPPED, tag=7)
                else:
                    WAITS[wait](ranks)
        except SkyfanError as error:
            return error

    errors = run_threads(3, work)
    assert isinstance(errors[STOPPED], Interrupted)
    for other in (0, 2):
        assert isinstance(errors[other], comm.PeerLost)
        assert errors[other].rank == STOPPED
        assert "was stopped" in str(errors[other])


@pytest.mark.parametrize("channel_options", ["relay", "direct", "store"], indirect=True)
def test_a_rank_stopped_while_the_group_forms_ends_and_may_join_again(channel_options):
    run, cancelled = uuid.uuid4().hex, threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(Interrupted, match="was stopped while it waited"):
        comm.connect(0, 2, run=run, token=TOKEN, cancelled=cancelled, **channel_options)

    def again(rank):
        with comm.connect(rank, 2, run=run, token=TOKEN, **channel_options) as ranks:
            return len(ranks.allgather(b""))

    assert run_threads(2, again) == [2, 2]


def test_a_rank_stopped_while_it_looks_for_the_server_ends():
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(Interrupted):
        comm.connect(0, 2, run="r", channel="relay", rendezvous="127.0.0.1:9", token=TOKEN, cancelled=cancelled)
