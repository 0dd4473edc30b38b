"""torch's libraries are loaded beside Python's imports, and torch is the same with them as without."""

import json
import subprocess
import sys

import pytest

_LOADED = """
import json, sys, threading
from pathlib import Path
from skyfan.torch_libraries import begin_loading
begin_loading(json.loads(sys.argv[1]), Path(sys.argv[2]))
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(60)
print("torch" in sys.modules, "libtorch_cpu" in Path("/proc/self/maps").read_text())
"""
_TORCH = "import torch; print(torch.ones(3).sum().item())"


def _run(arguments: list[str], driver: str = "/dev/null", then: str = "") -> list[str]:
    command = [sys.executable, "-c", _LOADED + then, json.dumps(arguments), driver]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.split()


def test_they_are_loaded_where_there_is_a_driver():
    assert _run(["run", "--dataset", "sky.pt", "--on", "auto"], then=_TORCH) == ["False", "True", "3.0"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "runs/demo"],
        ["run", "--help"],
        ["run", "--on", "aws"],
        ["run", "--on=local"],
        ["demo", "--device", "cpu"],
    ],
)
def test_nothing_is_loaded_for_a_command_that_predicts_elsewhere_or_not(arguments):
    assert _run(arguments) == ["False", "False"]


def test_nothing_is_loaded_where_there_is_no_driver():
    assert _run(["run"], "/dev/no-driver") == ["False", "False"]
