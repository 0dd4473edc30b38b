"""What `skyfan run --on localstack|aws` shows and asks; the run itself is `skyfan.backends.stepfunctions`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from skyfan.backends import Job
from skyfan.backends.stepfunctions import Execution, run_on_stepfunctions
from skyfan.cli.console import err, say
from skyfan.cli.log_progress import LogProgress
from skyfan.cli.progress import RunProgress
from skyfan.records import Summary


def execute_on_stepfunctions(job: Job, on: str, shown: LogProgress | RunProgress, state_machine: str) -> Summary:
    """Starts the execution, shows it live; Ctrl-C asks whether to stop it.

    Without a terminal there is nobody to ask: the execution goes on, and the last line says how to stop it.
    """

    def on_interrupt(execution: Execution) -> bool:
        shown.stop()
        asked = err.is_terminal and sys.stdin.isatty()
        if asked and typer.confirm(f"Stop execution {execution.name}, too?", default=False, err=True):
            say("stopping it; what is committed is kept.")
            return True
        say(f"the execution goes on; `skyfan runs stop --on {on} {execution.arn}` stops it.")
        return False

    def on_start(execution: Execution) -> None:
        say(f"execution {execution.name}")
        if execution.console_url:
            say(execution.console_url)

    with _sigterm_interrupts(), shown as progress:
        return run_on_stepfunctions(
            job, on, progress, state_machine=state_machine, on_start=on_start, on_interrupt=on_interrupt
        )


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, such as of `docker stop`, ends the following as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
