"""torch's libraries are loaded beside Python's imports, and torch is the same with them as without."""

import subprocess
import sys

_LOADED = """
import sys, threading
from pathlib import Path
from skyfan.torch_libraries import begin_loading
begin_loading(Path(sys.argv[1]))
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(60)
print("torch" in sys.modules, "libtorch_cpu" in Path("/proc/self/maps").read_text())
import torch
print(torch.ones(3).sum().item())
"""


def _run(driver: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, driver], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_they_are_loaded_where_there_is_a_driver():
    assert _run("/dev/null") == ["False", "True", "3.0"]


def test_nothing_is_loaded_where_there_is_none():
    assert _run("/dev/no-driver") == ["False", "False", "3.0"]
