"""One attempt of a job as a process, started and stopped as a container of Batch is."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# "Job timeouts" and the ECS agent's stopTimeout: SIGTERM, and SIGKILL 30 s later.
STOP_GRACE_S = 30.0
_LOOK_EVERY_S = 0.05
# What a job does not inherit from this process: another scheduler's numbers, and those that Batch sets itself.
_NOT_INHERITED = ("AWS_BATCH_", "SLURM_", "JOB_COMPLETION_")


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended; `reason` is what Batch would tell beside the exit code."""

    code: int
    reason: str = ""


def run_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    stopped: threading.Event,
    timeout_s: float | None,
) -> Exit:
    """Runs the command to its end, or to `stopped` or the time-out; signals become 128 + their number."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    # The command is the registered job definition's: running it is what this service is for.
    with subprocess.Popen(command, env=kept | dict(environment), start_new_session=True) as process:  # noqa: S603
        try:
            while (code := process.poll()) is None:
                if deadline is not None and time.monotonic() > deadline:
                    _end(process)
                    return Exit(_code(process.wait()), "Job attempt duration exceeded timeout")
                if stopped.wait(_LOOK_EVERY_S):
                    _end(process)
                    return Exit(_code(process.wait()), "Job was terminated")
            return Exit(_code(code), "Essential container in task exited" if code else "")
        finally:
            if process.poll() is None:
                process.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _code(returned: int) -> int:
    return 128 - returned if returned < 0 else returned
