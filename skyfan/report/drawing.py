"""matplotlib without the settings of the current folder, on one thread: all other modules take it from here.

matplotlib reads `./matplotlibrc` before the user's own settings when it is imported, and up to 3.10 evaluates a part of
it (`validate_cycler`). A folder that came with data must not set, and cannot be let to execute, anything. There is no
way to leave that file out but to import matplotlib from elsewhere.
"""

import contextlib
import contextvars
import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

if "matplotlib" not in sys.modules and Path("matplotlibrc").exists():
    with contextlib.chdir("/"):
        import matplotlib as mpl
else:
    import matplotlib as mpl

from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

__all__ = [
    "Bbox",
    "Figure",
    "FuncFormatter",
    "LinearSegmentedColormap",
    "LogLocator",
    "LogNorm",
    "MaxNLocator",
    "NullLocator",
    "PolyCollection",
    "imsave",
    "mpl",
    "on_drawing_thread",
]

P = ParamSpec("P")
T = TypeVar("T")


def on_drawing_thread(draw: Callable[P, T]) -> Callable[P, T]:
    """`draw` on the one thread of this process that draws; its caller waits.

    matplotlib's settings are the process's, so that two pages drawn at once would take each other's style, and it
    keeps open font files for each thread that ever drew: a service's or a notebook's descriptors would grow.
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        context = contextvars.copy_context()
        return _pool.submit(lambda: context.run(draw, *args, **kwargs)).result()

    return drawn


def _new_pool() -> None:
    global _pool
    _pool = ThreadPoolExecutor(1, thread_name_prefix="skyfan-drawing")


_pool: ThreadPoolExecutor
_new_pool()
os.register_at_fork(after_in_child=_new_pool)  # a child has none of its parent's threads
