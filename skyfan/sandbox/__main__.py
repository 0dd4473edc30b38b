"""The child of `run_in_child`: gives up its rights, then imports and calls what it was told to."""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

from skyfan.sandbox.child import REPORT
from skyfan.sandbox.landlock import restrict_process
from skyfan.sandbox.network import leave_network

_SET_DEATH_SIGNAL = 1


def main() -> None:
    """`python -m skyfan.sandbox module:function FOLDER MEMORY_BYTES FILE_BYTES PARENT`; stdin is what it works on."""
    entry, folder, memory, file_size, parent = sys.argv[1:]
    if sys.platform.startswith("linux"):  # the child does not outlive who asked
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # who asked died before: no signal comes any more, and nobody keeps the deadline
        sys.exit(1)
    for limit, value in (
        (resource.RLIMIT_AS, int(memory)),
        (resource.RLIMIT_FSIZE, int(file_size)),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    leave_network()
    restrict_process([folder])
    module, _, function = entry.partition(":")
    found = getattr(importlib.import_module(module), function)(sys.stdin.buffer.read())
    Path(folder, REPORT).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
