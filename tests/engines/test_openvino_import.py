"""Importing OpenVINO through Skyfan: no home directory, no file outside its folders, no socket, no telemetry."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("skyfan.engines.openvino_import")

ROOT = Path(__file__).parents[2]
# Audit events ("Audit events table" of Python's library reference) of one process, and what it has imported.
WATCHED = """
import json, sys
seen = {"written": [], "read": [], "network": [], "processes": []}
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        mode, flags = arguments[1] or "", arguments[2] or 0
        seen["written" if set(mode) & set("wax+") or flags & 3 else "read"].append(arguments[0])
    elif event in ("os.mkdir", "os.rename", "os.remove"):
        seen["written"].append(str(arguments[0]))
    elif event.startswith("socket."):
        seen["network"].append(event)
    elif event in ("os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen"):
        seen["processes"].append(event)
sys.addaudithook(hook)
from skyfan.engines.openvino_import import openvino
openvino.Core()
seen["telemetry"] = sys.modules.get("openvino_telemetry") is not None
seen["folders"] = [sys.prefix, sys.base_prefix, *(path for path in sys.path if path)]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_home_directory_is_needed_and_the_telemetry_stays_out(seen: dict[str, list[str]]) -> None:
    assert seen["telemetry"] is False


def test_nothing_is_written_sent_or_started(seen: dict[str, list[str]]) -> None:
    assert (seen["written"], seen["network"], seen["processes"]) == ([], [], [])


def test_only_files_of_python_and_its_packages_are_read(seen: dict[str, list[str]]) -> None:
    elsewhere = [
        path for path in seen["read"] if path.startswith("/") and not path.startswith((*seen["folders"], "/proc/"))
    ]
    assert elsewhere == []


def test_one_module_imports_openvino() -> None:
    """Whatever else imported it first would bring its telemetry along."""
    importing = re.compile(r"^\s*(?:import openvino\b|from openvino\b)", re.MULTILINE)
    found = {
        str(path.relative_to(ROOT))
        for folder in ("skyfan", "services", "infra", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if importing.search(path.read_text())
    }
    assert found == {"skyfan/engines/openvino_import.py"}
