"""matplotlib without the settings of the current folder: the one module that imports it; all others take it from here.

matplotlib reads `./matplotlibrc` before the user's own settings when it is imported, and up to 3.10 evaluates a part of
it (`validate_cycler`). A folder that came with data must not set, and cannot be let to execute, anything. There is no
way to leave that file out but to import matplotlib from elsewhere.
"""

import contextlib
import sys
from pathlib import Path

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
]
