"""Modules that lie beside the data: whatever they are called, nothing of them is executed."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_sample

_LISTING = """
import sys
import skyfan.cli, skyfan.comm.check_rank
import skyfan.serving.aggregator, skyfan.serving.executor, skyfan.serving.partitioner
import multiprocessing.spawn, matplotlib.pyplot, openvino, torch
print(*{name.partition(".")[0] for name in sys.modules if not name.startswith("__")})
"""
_SERVICES = ("services", "skyfan", "skyfan_compose", "sitecustomize", "usercustomize")
# What a module of the folder leaves when it is imported.
_HOSTILE = 'open({marker!r}, "a").write(__name__ + "\\n")\n'
# What a tool that is asked for nothing may read of the folder all the same: settings of matplotlib, pip, pytest, AWS.
_SETTINGS = {
    "matplotlibrc": "backend: module://hostile\nfigure.figsize: 1, 1\nskyfan.hostile: 1\n",
    "pyproject.toml": "[",
    ".env": "SKYFAN_DEVICE=hostile\nSKYFAN_THREADS=hostile\n",
    "hostile.pth": "import hostile\n",
    "python3._pth": "hostile\n",
    "pyvenv.cfg": "home = hostile\n",
    ".aws/config": "[default]\nregion = hostile\n",
}
_SCRIPT = Path(sys.executable).with_name("skyfan")


@pytest.fixture(scope="module")
def imported_names():
    """Every top-level module that a run imports, in the command and in its children."""
    listed = subprocess.run(
        [sys.executable, "-P", "-c", _LISTING], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert {"numpy", "torch", "grpc", "pyarrow", "typing", "pickle"} <= set(listed)
    return set(listed) | set(_SERVICES)


def _fill(folder, names):
    marker = folder / "executed"
    for number, name in enumerate(sorted({*names, "hostile"})):
        place = folder / name / "__init__.py" if number % 2 else folder / f"{name}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(_HOSTILE.format(marker=str(marker)))
    for name, content in _SETTINGS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return marker


def _third_party(names):
    """Names that `python -m` has not imported before the command can take the folder off the path."""
    return names - set(sys.stdlib_module_names) - {"skyfan", "sitecustomize", "usercustomize"}


_COMMANDS = {
    "process": ["run", "--dataset", "sky.pt", "--output", "run", "--on", "process"],
    "local": ["run", "--dataset", "sky.pt", "--output", "run", "--on", "local", "--partition-size", "100KB"],
    "simulate": ["data", "simulate", "made.pt", "--galaxies", "4", "--processes", "2"],
    "comm check": ["comm", "check", "--world-size", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "command"),
    [("script", command) for command in _COMMANDS]
    + [("python -P -m", "local"), ("python -m", "process"), ("python -m", "simulate")],
)
def test_nothing_beside_the_data_is_executed(tmp_path, imported_names, start, command):
    launcher = {
        "script": [sys.executable, str(_SCRIPT)] if _SCRIPT.exists() else None,
        "python -P -m": [sys.executable, "-P", "-m", "skyfan"],
        "python -m": [sys.executable, "-m", "skyfan"],
    }[start]
    if launcher is None:
        pytest.skip(f"skyfan {importlib.metadata.version('skyfan')} is installed without its command")
    make_sample(tmp_path / "sky.pt", 12)
    marker = _fill(tmp_path, _third_party(imported_names) if start == "python -m" else imported_names)
    done = subprocess.run(
        [*launcher, *_COMMANDS[command]], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    executed = marker.read_text().split() if marker.exists() else []
    assert executed == []
    assert done.returncode == 0, done.stderr
    assert "hostile" not in done.stderr  # matplotlib would complain of its file


def test_the_test_would_see_it(tmp_path, imported_names):
    """Python itself, without Skyfan's precautions, does import what lies in the folder."""
    marker = _fill(tmp_path, imported_names)
    subprocess.run([sys.executable, "-c", "import numpy"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert "numpy" in marker.read_text().split()
