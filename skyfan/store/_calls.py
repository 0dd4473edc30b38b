"""Calls that wait on the network: Ctrl-C ends them at once, and busy stores are asked again, with limits.

obstore's functions run no signal handlers until they return, which can take minutes where a server hangs. So each runs
in a daemon thread, and the caller waits in Python. (Its asynchronous functions hand their results over from threads of
their own, which abort the process if the interpreter ends in that moment.)
"""

import random
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_waiting: "weakref.WeakSet[Future[Any]]" = weakref.WeakSet()
_waiting_lock = threading.Lock()
_abandoned = threading.Event()  # a new one for the calls that come after


def wait_for(call: Callable[[], T]) -> T:
    """What `call` returns or raises; after an interrupt nobody waits for it any more.

    Raises:
        concurrent.futures.CancelledError: `abandon_calls` was called meanwhile.
    """
    asked: Future[T] = Future()
    with _waiting_lock:
        _waiting.add(asked)
    threading.Thread(target=_answer, args=(asked, call), name="skyfan-store", daemon=True).start()
    try:
        return asked.result()
    except BaseException:
        asked.cancel()
        raise


def _answer(asked: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        if asked.set_running_or_notify_cancel():
            asked.set_exception(error)
    else:
        if asked.set_running_or_notify_cancel():
            asked.set_result(answer)


def abandon_calls() -> None:
    """Ends the waiting for every request under way, in all threads: for a process that is about to end.

    Without it the interpreter waits at its end for threads that read from a server which hangs.
    """
    global _abandoned
    with _waiting_lock:
        _abandoned.set()
        _abandoned = threading.Event()
        for asked in tuple(_waiting):
            asked.cancel()


@dataclass
class Retries:
    """A limit to trying again: a number of pauses, none begun after `budget_s`.

    Pauses are random below a bound that doubles ("full jitter": https://aws.amazon.com/builders-library/
    timeouts-retries-and-backoff-with-jitter).
    """

    pauses: int = 6
    budget_s: float = 60.0
    first_s: float = 0.1
    longest_s: float = 5.0
    _made: int = 0
    _ended: threading.Event = field(default_factory=lambda: _abandoned)
    _begun_at: float = field(default_factory=time.monotonic)

    def pause(self) -> bool:
        """Waits a while and returns True; False at once where the limit is reached.

        Raises:
            concurrent.futures.CancelledError: `abandon_calls` was called meanwhile.
        """
        if self._made >= self.pauses or time.monotonic() - self._begun_at > self.budget_s:
            return False
        pause_s = random.uniform(0, min(self.longest_s, self.first_s * 2**self._made))  # noqa: S311 (jitter)
        if self._ended.wait(pause_s):
            raise CancelledError
        self._made += 1
        return True
