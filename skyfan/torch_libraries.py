"""torch's shared libraries, loaded beside what Python imports: half a second of a start that has a GPU.

Python holds its lock while it loads a library; a call of the loader by ctypes does not.
"""

import ctypes
import itertools
import os
import threading
from importlib.util import find_spec
from pathlib import Path

# The NVIDIA driver's own device. Where it is missing there is no GPU, and torch, which takes a second to import,
# need not be asked.
NVIDIA_DRIVER = Path("/dev/nvidiactl")


def begin_loading(arguments: list[str], driver: Path = NVIDIA_DRIVER) -> None:
    """Loads them on a thread where this command is one that predicts in this very process, and there is a GPU.

    What cannot be loaded, torch's own import reports. The thread is no daemon: a process does not end while libraries
    start.
    """
    torch = find_spec("torch") if _predicts_here(arguments) and driver.exists() else None
    if torch is not None and torch.origin is not None:
        folder = Path(torch.origin).parent / "lib"
        threading.Thread(target=_load, args=(folder,), name="skyfan-torch-libraries").start()


def _predicts_here(arguments: list[str]) -> bool:
    told = " ".join(arguments[1:]).replace("=", " ").split(" ")
    elsewhere = [
        value
        for option, value in itertools.pairwise(told)
        if (option == "--on" and value not in ("auto", "process")) or (option, value) == ("--device", "cpu")
    ]
    return arguments[:1] in (["run"], ["demo"], ["rank"]) and not elsewhere and not {"-h", "--help"} & {*told}


def _load(folder: Path) -> None:
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    # As torch itself: the first has the symbols that all others share. Its library of Python stays out: what starts in
    # it may count on Python's lock.
    load(os.fsencode(folder / "libtorch_global_deps.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
    load(os.fsencode(folder / "libtorch.so"), os.RTLD_LAZY)
