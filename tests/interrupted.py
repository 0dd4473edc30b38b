"""A run that SIGINT stops, for a process of its own: `python -m tests.interrupted BACKEND`, the job on standard input.

Prints what the caller is told. In the process of the tests a signal that comes late would end them all.
"""

import os
import signal
import sys
import threading

import skyfan
from skyfan.backends.base import Backend
from skyfan.backends.process import ProcessBackend
from skyfan.errors import Interrupted
from skyfan.events import Event, RankCommitted

PATIENCE_S = 60


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Cancelled(ProcessBackend):
    """The process backend, which tells when it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        super().cancel()
        self.cancelled.set()


def at_the_first_commit(job: skyfan.Job) -> None:
    """The run goes on with its next rank when it is cancelled, however slow the main thread is."""
    backend = Cancelled()

    def listener(event: Event) -> None:
        if isinstance(event, RankCommitted):
            interrupt()
            if not backend.cancelled.wait(PATIENCE_S):
                raise TimeoutError("the interrupt has not reached the backend")

    skyfan.run(job, on=backend, progress=listener)


class Hanging(Backend):
    """A backend that ends long after its deadline."""

    name = "hanging"
    cancel_deadline_s = 0.2

    def run(self, job, listener):
        interrupt()
        threading.Event().wait(2 * PATIENCE_S)
        raise TimeoutError("the caller has waited for the backend")

    def cancel(self) -> None:
        pass


def hanging(job: skyfan.Job) -> None:
    skyfan.run(job, on=Hanging(), progress=False)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.environ["SKYFAN_THREADS"] = "1"
    job = skyfan.Job.model_validate_json(sys.stdin.read())
    try:
        {"at_the_first_commit": at_the_first_commit, "hanging": hanging}[sys.argv[1]](job)
    except Interrupted as told:
        print(told)


if __name__ == "__main__":
    main()
