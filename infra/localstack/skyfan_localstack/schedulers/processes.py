"""One container as a process: started, and stopped by SIGTERM and then SIGKILL."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# "Job timeouts" and the ECS agent's stopTimeout: SIGTERM, and SIGKILL 30 s later.
STOP_GRACE_S = 30.0
_LOOK_EVERY_S = 0.05
# What a task does not inherit from this process: another scheduler's numbers, and those that Batch sets itself.
_NOT_INHERITED = ("AWS_BATCH_", "SLURM_", "JOB_COMPLETION_")


class RequestError(Exception):
    """What AWS answers where a request cannot be used; `name` is the error's code."""

    def __init__(self, message: str, name: str = "ClientException") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended; `reason` is what AWS would tell beside the exit code."""

    code: int
    reason: str = ""


def run_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    stopped: threading.Event,
    *,
    timeout_s: float | None = None,
    folder: Path | None = None,
) -> Exit:
    """Runs the command, in `folder`, to its end, or to `stopped` or the time-out; signals become 128 + their number."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    # The command is the job's own: running it is what this service is for.
    with subprocess.Popen(command, cwd=folder, env=kept | dict(environment), start_new_session=True) as process:  # noqa: S603
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
