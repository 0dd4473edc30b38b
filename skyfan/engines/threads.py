"""How many threads an executor computes with."""

import os

from skyfan.errors import BadInput

THREADS_VARIABLE = "SKYFAN_THREADS"


def available_threads() -> int:
    """`SKYFAN_THREADS`, or the processors that this process may use."""
    text = os.environ.get(THREADS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"{THREADS_VARIABLE} is {text!r}; give a number of threads, at least 1.")
    return int(text)
