"""The one interface that every channel offers and every algorithm uses: post, then wait.

An operation posts sends and receives, which return at once, and waits for them with a deadline; only `wait`
blocks. So a rank can send and receive at the same time, which is all that a deadlock-free collective needs.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from skyfan.comm.errors import CommTimeout, name_ranks

Parts = Sequence[memoryview]


class Op(enum.IntEnum):
    """What a message belongs to; it travels in every frame so that operations can never mix."""

    MESSAGE = 1
    BARRIER = 2
    BCAST = 3
    GATHER = 4
    ALLGATHER = 5
    SCATTER = 6
    REDUCE = 7
    ALLREDUCE = 8
    SCAN = 9


class Tag(NamedTuple):
    """Identifies a message between two ranks.

    `sequence` counts the group's collectives (the same on all ranks); point-to-point messages have
    sequence 0 and the user's tag as `step`.
    """

    op: int
    sequence: int
    step: int

    def __str__(self) -> str:
        name = Op(self.op).name.lower()
        return f"message with tag {self.step}" if self.op == Op.MESSAGE else f"{name} #{self.sequence}"


class Request:
    """A posted send or receive.

    `data` is what a receive got: the posted buffer, or a new one where none was given.
    `check` is a number that both sides of a message must agree on (dtype and shape of a reduction).
    """

    __slots__ = ("check", "data", "done", "peer", "tag")

    def __init__(self, peer: int, tag: Tag, check: int = 0, data: memoryview | None = None) -> None:
        self.peer = peer
        self.tag = tag
        self.check = check
        self.data = data
        self.done = False

    def result(self) -> memoryview:
        """The received bytes; only after `wait`."""
        assert self.done
        assert self.data is not None
        return self.data


def require_time(pending: Sequence[Request], now: float, deadline: float) -> None:
    """Raise `CommTimeout`, which names the ranks waited for, when the deadline has passed."""
    if now >= deadline:
        peers = sorted({request.peer for request in pending})
        raise CommTimeout(f"{pending[0].tag}: {name_ranks(peers)} did not take part before the deadline.", peers)


class Channel(ABC):
    """Messages between the ranks of one group, in order for each pair of ranks."""

    name: str
    rank: int
    world_size: int

    @abstractmethod
    def isend(self, dst: int, tag: Tag, parts: Parts, check: int = 0) -> Request:
        """Post a message made of `parts`. They must not change until the request is done."""

    @abstractmethod
    def irecv(self, src: int, tag: Tag, into: memoryview | None = None, check: int = 0) -> Request:
        """Post a receive; a message of another length than `into` is a `CollectiveMismatch`."""

    @abstractmethod
    def wait(self, requests: Iterable[Request], deadline: float) -> None:
        """Block until all are done or `deadline` (`time.monotonic()`).

        Raises `PeerLost`, `CommTimeout`, `RendezvousLost` or `CollectiveMismatch`; the channel is
        then of no further use and raises the same again.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise what `wait` would raise if a failure is already known."""

    @abstractmethod
    def close(self, failed: BaseException | None, timeout_s: float) -> None:
        """Hand over what was sent, say goodbye (`failed`: why this rank gives up) and free everything."""
