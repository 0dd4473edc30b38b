"""How many threads an executor computes with."""

import os

from skyfan.settings import ComputeSettings, read, variable

THREADS_VARIABLE = variable(ComputeSettings, "threads")


def available_threads() -> int:
    """`SKYFAN_THREADS`, or the processors that this process may use."""
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return read(ComputeSettings).threads or visible
