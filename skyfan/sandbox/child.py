"""Runs a function of Skyfan in a child process that has a folder, limits and a deadline, and little else.

The child gives up its rights itself, before it imports what it is to run (`skyfan.sandbox.__main__`). Its environment
holds no credentials, its input comes through a pipe, and what it says is read from files of bounded size.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfan.errors import BadInput

REPORT, ERRORS = "report.json", "stderr.txt"
MAX_REPORT_BYTES = 16 * 2**20
_MAX_SHOWN = 300
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """What a child may take: wall-clock seconds, bytes of address space, bytes of each file that it writes."""

    deadline_s: float = 300
    memory_bytes: int = 8 * 2**30
    file_bytes: int = MAX_REPORT_BYTES


class ChildDied(BadInput):
    """What was tried in a child process ended that process; the message begins with a verb."""

    cure = "Export the model again with the supported operators; the file as it is cannot be used."


def run_in_child(
    entry: str, data: bytes, limits: Limits, pass_fds: Sequence[int] = (), folder: Path | None = None
) -> Any:
    """What `entry` (`package.module:function`) makes of the bytes in a confined child, a JSON value.

    The child keeps the file descriptors `pass_fds`, such as one end of a socket pair. It works in `folder`, where the
    caller finds what it wrote, or in one that is removed afterwards. Raises `ChildDied` with how it ended: by a signal,
    at its deadline, out of memory, with an exception.
    """
    with tempfile.TemporaryDirectory(prefix="skyfan-") if folder is None else nullcontext(str(folder)) as name:
        folder = Path(name)
        numbers = [str(limits.memory_bytes), str(limits.file_bytes), str(os.getpid())]
        command = [sys.executable, "-P", "-m", "skyfan.sandbox", entry, name, *numbers]
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        environment |= {"HOME": name, "TMPDIR": name}
        with (folder / ERRORS).open("wb") as errors:
            try:
                done = subprocess.run(  # noqa: S603 - this interpreter, on arguments of ours
                    command, input=data, stdout=errors, stderr=errors, env=environment, cwd=name, check=False,
                    timeout=limits.deadline_s, pass_fds=pass_fds,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise ChildDied(f"did not end within {limits.deadline_s:.0f} s") from error
        if done.returncode < 0:
            raise ChildDied(f"ended its process with {_signal(-done.returncode)}")
        if done.returncode:
            raise ChildDied(f"failed: {_last_line(folder / ERRORS)}")
        with (folder / REPORT).open("rb") as report:
            return json.loads(report.read(MAX_REPORT_BYTES))


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return f"signal {name}" + (", often a sign of too little memory" if number == signal.SIGKILL else "")


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return ascii(lines[-1][:_MAX_SHOWN])[1:-1] if lines else "nothing was said"
