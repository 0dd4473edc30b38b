"""Calls that wait on the network: Ctrl-C ends them at once, and busy stores are asked again, with limits.

obstore's blocking functions run no signal handlers until they return, which can take minutes where a server hangs.
Its asynchronous ones run here on one loop, in a daemon thread, and the caller waits in Python.
"""

import asyncio
import atexit
import concurrent.futures
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_waiting: "weakref.WeakSet[concurrent.futures.Future[Any]]" = weakref.WeakSet()
_waiting_lock = threading.Lock()
# obstore tells Python of a cancelled request from a thread of its own, which panics if the interpreter is gone.
_CANCELLED_BY_THEN_S = 0.3
_last_cancelled_at = -_CANCELLED_BY_THEN_S


def wait_for(call: Callable[[], Awaitable[T]]) -> T:
    """What `call`, made on the loop, gives or raises; an interrupt cancels it, and the request with it.

    Raises:
        concurrent.futures.CancelledError: `abandon_calls` was called meanwhile.
    """

    async def on_the_loop() -> T:
        return await call()

    with _waiting_lock:
        asked = asyncio.run_coroutine_threadsafe(on_the_loop(), _loop())
        _waiting.add(asked)
    try:
        return asked.result()
    except BaseException:
        _cancel(asked)
        raise


def abandon_calls() -> None:
    """Cancels every request under way, in all threads: for a process that is about to end.

    Without it the interpreter waits at its end for threads that read from a server which hangs.
    """
    with _waiting_lock:
        for asked in tuple(_waiting):
            _cancel(asked)


def _cancel(asked: "concurrent.futures.Future[Any]") -> None:
    global _last_cancelled_at
    if asked.cancel():
        _last_cancelled_at = time.monotonic()


@atexit.register
def _let_cancelled_requests_end() -> None:
    time.sleep(max(0.0, _last_cancelled_at + _CANCELLED_BY_THEN_S - time.monotonic()))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="skyfan-store", daemon=True).start()
    return loop


@dataclass
class Retries:
    """A limit to trying again: so many pauses, none begun after `budget_s`.

    Pauses are random below a bound that doubles ("full jitter": https://aws.amazon.com/builders-library/
    timeouts-retries-and-backoff-with-jitter).
    """

    pauses: int = 6
    budget_s: float = 60.0
    first_s: float = 0.1
    longest_s: float = 5.0
    _made: int = 0
    _begun_at: float = field(default_factory=time.monotonic)

    def pause(self) -> bool:
        """Waits a while and returns True; False at once where the limit is reached."""
        if self._made >= self.pauses or time.monotonic() - self._begun_at > self.budget_s:
            return False
        time.sleep(random.uniform(0, min(self.longest_s, self.first_s * 2**self._made)))  # noqa: S311 (jitter)
        self._made += 1
        return True
