"""A thread of a rank that writes no file, starts no program and makes no TCP connection.

Landlock binds threads, so a rank can go on writing its results while the thread that runs somebody's program cannot.
It is no wall against code that runs in the process, which shares its memory; it is one against operators that open
files, which is what a hole in the list of operators would be.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from skyfan.sandbox.landlock import restrict_process

T = TypeVar("T")
_GPU_DEVICES = "nvidia*"  # a driver's device files are opened for writing


class ConfinedThread:
    """Runs functions one after the other on one confined thread; on an ordinary one where there is no Landlock."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "skyfan-program", initializer=_confine)

    def run(self, function: Callable[[], T]) -> T:
        """The function's result, or its exception."""
        return self._pool.submit(function).result()


def _confine() -> None:
    restrict_process(list(Path("/dev").glob(_GPU_DEVICES)))
