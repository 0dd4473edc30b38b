"""The state of the other ranks: written by the thread that reads the server's events, read by operations."""

import threading

from skyfan.comm.errors import CommError, PeerLost, RendezvousLost, name_ranks
from skyfan.comm.waiting import Waker


class PeerMonitor:
    """Which ranks were lost or have left, and whether the server is connected; a change wakes `waker`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost: PeerLost | None = None
        self._left: set[int] = set()
        self._server_gone: str | None = None
        self.waker = Waker()
        self.changed = False

    def peer_lost(self, rank: int, message: str) -> None:
        """Record a loss. Only the first counts: later ones are most often its consequence."""
        with self._lock:
            if self._lost is None:
                self._lost = PeerLost(message, rank)
        self._changed()

    def peer_left(self, rank: int) -> None:
        """Record that a rank left after its last operation."""
        with self._lock:
            self._left.add(rank)
        self._changed()

    def server_gone(self, message: str) -> None:
        """Record that the connection to the server broke; there is no second one."""
        with self._lock:
            self._server_gone = self._server_gone or message
        self._changed()

    def failure(self, needs_server: bool) -> CommError | None:
        """The error that every operation has to raise from now on; None while there is none."""
        with self._lock:
            if self._lost is not None:
                return self._lost
            if self._server_gone is not None and needs_server:
                return RendezvousLost(self._server_gone)
            return None

    def has_left(self, rank: int) -> bool:
        """Whether the rank has left after its last operation."""
        return rank in self._left

    @property
    def server_is_gone(self) -> bool:
        """Whether the server is gone, so that it reports no losses any more."""
        return self._server_gone is not None

    def _changed(self) -> None:
        self.changed = True
        self.waker.wake()


def left_error(rank: int) -> PeerLost:
    """The error for a rank that left while this one still waits for it."""
    return PeerLost(
        f"{name_ranks([rank])} left the group while this rank still waited for it; "
        "call the same operations on all ranks before closing.",
        rank,
    )


def lost_error(rank: int, why: str) -> PeerLost:
    """The error for a rank whose connection ended before it had left; `why` has the details."""
    return PeerLost(f"{name_ranks([rank])} was lost: {why}.", rank)
