"""What is known about the other ranks: written by the thread that listens to the server, read by operations."""

import socket
import threading

from skyfan.comm.errors import CommError, PeerLost, RendezvousLost, name_ranks


class Watch:
    """Who was lost, who left and whether the server is still there; wakes whoever waits on `wake_fd`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost: PeerLost | None = None
        self._left: set[int] = set()
        self._server_gone: str | None = None
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._closed = False
        self.changed = False

    @property
    def wake_fd(self) -> int:
        """Becomes readable when something changed."""
        return self._reader.fileno()

    def peer_lost(self, rank: int, message: str) -> None:
        """The first loss counts: later ones are most often its consequence."""
        with self._lock:
            if self._lost is None:
                self._lost = PeerLost(message, rank)
        self._wake()

    def peer_left(self, rank: int) -> None:
        """The rank said goodbye after its last operation."""
        with self._lock:
            self._left.add(rank)
        self._wake()

    def server_gone(self, message: str) -> None:
        """The connection to the server broke and did not come back."""
        with self._lock:
            self._server_gone = self._server_gone or message
        self._wake()

    def failure(self, needs_server: bool) -> CommError | None:
        """Why no operation can succeed any more, if so."""
        with self._lock:
            if self._lost is not None:
                return self._lost
            if self._server_gone is not None and needs_server:
                return RendezvousLost(self._server_gone)
            return None

    def has_left(self, rank: int) -> bool:
        """Whether the rank is known to have said goodbye."""
        return rank in self._left

    @property
    def server_is_gone(self) -> bool:
        """Whether nobody will tell any more who was lost."""
        return self._server_gone is not None

    def drain(self) -> None:
        """Make `wake_fd` quiet again."""
        try:
            while self._reader.recv(64):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Free the sockets; later reports are dropped."""
        with self._lock:
            self._closed = True
            self._reader.close()
            self._writer.close()

    def _wake(self) -> None:
        with self._lock:
            self.changed = True
            if self._closed:
                return
            try:
                self._writer.send(b"!")
            except BlockingIOError:
                return  # full of wake-ups: it is readable already


def left_error(rank: int) -> PeerLost:
    """A rank said goodbye although this one still waits for it."""
    return PeerLost(
        f"{name_ranks([rank])} left the group while this rank still waited for it; "
        "call the same operations on all ranks before closing.",
        rank,
    )


def lost_error(rank: int, why: str) -> PeerLost:
    """A rank's connection ended without a goodbye."""
    return PeerLost(f"{name_ranks([rank])} was lost: {why}.", rank)
