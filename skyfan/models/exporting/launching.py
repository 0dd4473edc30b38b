"""Starts the child that imports the user's module, and takes what it made."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from skyfan.errors import ModelError, by_name
from skyfan.models.exporting.request import ChildReply, ExportReport, ExportRequest

PROGRAM, REPLY = "program.pt2", "reply.json"
# Tracing takes seconds to minutes; a module that waits for something would hold the command for good.
DEADLINE_S = 3600.0
_STANDARD_ERROR = 2


def export_program(request: ExportRequest) -> tuple[bytes, ExportReport]:
    """The bytes of the `.pt2` file and what is in it; the user's code runs in a child process, nowhere else.

    What that code prints goes to standard error.

    Raises:
        ModelError: the module cannot be imported, made, given the weights, exported or run by Skyfan, or the program
            gives other outputs than the module.
        DatasetError: the example is no dataset, or lacks a column.
    """
    with tempfile.TemporaryDirectory(prefix="skyfan-") as name:
        folder = Path(name)
        command = [sys.executable, "-P", "-m", "skyfan.models.exporting", name, str(Path.cwd())]
        try:
            done = subprocess.run(  # noqa: S603 (this interpreter, on arguments of ours)
                command,
                input=request.model_dump_json().encode(),
                stdout=_STANDARD_ERROR,
                env=os.environ,
                timeout=DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"{request.factory} was not exported within {DEADLINE_S / 60:.0f} minutes.") from error
        if not (folder / REPLY).exists():
            raise ModelError(
                f"{request.factory} ended the child process that exported it (exit code {done.returncode}); a process "
                "that is killed often had too little memory."
            )
        reply = ChildReply.model_validate_json((folder / REPLY).read_bytes())
        if reply.report is None:
            raise by_name(reply.kind, reply.error)
        return (folder / PROGRAM).read_bytes(), reply.report
