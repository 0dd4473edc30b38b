"""The interface that every channel offers and every algorithm uses: post, then wait.

An operation posts sends and receives, which return at once, and waits for them with a deadline; only `wait` blocks. So
a rank can send and receive at the same time, which is all that a deadlock-free collective needs.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from skyfan.comm.errors import CommError, CommTimeout, name_ranks
from skyfan.errors import SkyfanError

Parts = Sequence[memoryview]


class Op(enum.IntEnum):
    """The operation that a message belongs to; every frame names it, so that operations can never mix."""

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
        """The received bytes; call it only after `wait`."""
        assert self.done
        assert self.data is not None
        return self.data


def require_time(pending: Sequence[Request], now: float, deadline: float) -> None:
    """Check that the deadline has not passed; `now` and `deadline` are times of `time.monotonic()`.

    Raises:
        CommTimeout: it has; names the ranks that are waited for.
    """
    if now >= deadline:
        peers = sorted({request.peer for request in pending})
        raise CommTimeout(f"{pending[0].tag}: {name_ranks(peers)} did not take part before the deadline.", peers)


class Poisoning:
    """Remembers the error that leaves the block as the channel's failure."""

    __slots__ = ("_channel",)

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, SkyfanError):
            error = CommError(f"the operation before was interrupted ({type(error).__name__}).")
        self._channel.failure = self._channel.failure or error


class Channel(ABC):
    """Messages between the ranks of one group, in order for each pair of ranks."""

    name: str
    rank: int
    world_size: int
    failure: SkyfanError | None = None
    """What ended it: the state of streams is unknown after an error, and every later operation raises it again."""

    @abstractmethod
    def isend(self, dst: int, tag: Tag, parts: Parts, check: int = 0) -> Request:
        """Post a message made of `parts`. They must not change until the request is done."""

    @abstractmethod
    def irecv(self, src: int, tag: Tag, into: memoryview | None = None, check: int = 0) -> Request:
        """Post a receive; a message of another length than `into` is a `CollectiveMismatch`."""

    @abstractmethod
    def wait(self, requests: Iterable[Request], deadline: float) -> None:
        """Block until all are done, at most until `deadline` (a time of `time.monotonic()`).

        After an error the channel cannot be used any more and raises the same again.

        Raises:
            PeerLost: a rank died or stopped early.
            CommTimeout: the deadline has passed.
            RendezvousLost: the server is gone and the channel needs it.
            CollectiveMismatch: the ranks called different operations.
            Interrupted: the caller stopped this rank.
        """

    def check(self) -> None:
        """Raise at once what `wait` would raise because of a failure that is already known."""
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    def close(self, failed: BaseException | None, timeout_s: float) -> None:
        """Deliver what was sent, leave the group and free everything, within `timeout_s` seconds.

        `failed` is why this rank stops early; the other ranks are told.
        """
