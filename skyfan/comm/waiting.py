"""What every wait for other ranks has: a deadline, and an event by which the caller stops it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from skyfan.errors import Interrupted

T = TypeVar("T")

# A wait looks at its cancellation event this often, so that a stopped rank ends well within 2 s.
CANCEL_POLL_S = 0.5


class Waker:
    """Wakes a thread that waits for file descriptors: `wake`, from any thread, makes this one readable."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Make it readable; nothing once it is closed."""
        with self._lock, suppress(BlockingIOError):  # full of wake-ups: it is readable already
            if self._writer.fileno() >= 0:
                self._writer.send(b"!")

    def drain(self) -> None:
        """Read what made it readable."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Free the sockets."""
        with self._lock:
            self._reader.close()
            self._writer.close()


def countdown(limit_s: float, least_s: float = float("-inf")) -> Callable[[], float]:
    """A function of no arguments that returns the seconds left of `limit_s` from now, never less than `least_s`."""
    end = time.monotonic() + limit_s
    return lambda: max(least_s, end - time.monotonic())


def require_running(cancelled: threading.Event | None, what: str) -> None:
    """Check that the caller has not stopped this rank; `what` names the wait for the message.

    Raises:
        Interrupted: `cancelled` is set.
    """
    if cancelled is not None and cancelled.is_set():
        raise Interrupted(f"{what}: this rank was stopped while it waited.")


def pause_s(limit_s: float, cancelled: threading.Event | None) -> float:
    """How long a wait of at most `limit_s` may block before it has to look at `cancelled`."""
    return max(0.0, limit_s if cancelled is None else min(limit_s, CANCEL_POLL_S))


async def run_until_cancelled(work: Coroutine[Any, Any, T], cancelled: threading.Event | None, what: str) -> T:
    """The result of `work`, which is cancelled when `cancelled` is set.

    Raises:
        Interrupted: `cancelled` was set before `work` ended.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=None if cancelled is None else CANCEL_POLL_S)
            if not task.done():
                require_running(cancelled, what)
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
