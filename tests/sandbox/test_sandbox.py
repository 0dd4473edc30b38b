"""What runs in the sandbox cannot write, start programs or connect, and how it ends is told in one sentence."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from skyfan.sandbox import ChildDied, ConfinedThread, Limits, run_in_child, sandbox_status
from skyfan.sandbox.landlock import NETWORK_FROM, SCOPES_FROM, landlock_version
from tests.sandbox.entries import tried

ENTRIES = "tests.sandbox.entries"
QUICK = Limits(deadline_s=60, memory_bytes=2**31)
needs_landlock = pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")


@pytest.fixture(autouse=True)
def _entries_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children import nothing from the current folder, and the entries of these tests are not installed."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@needs_landlock
def test_a_child_writes_in_its_own_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kept").write_text("as it was")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = run_in_child(f"{ENTRIES}:outcome", str(tmp_path).encode(), QUICK)
    assert found["inside"] == "done"
    assert {found[what] for what in ("outside", "overwrite", "remove", "start")} == {"PermissionError"}
    assert found["secrets"] == []
    assert found["connect"] in ("PermissionError", "OSError")
    if landlock_version() >= SCOPES_FROM:
        assert found["parent"] == "PermissionError"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


@pytest.mark.parametrize(
    ("entry", "limits", "says"),
    [
        ("segfault", QUICK, "ended its process with signal SIGSEGV"),
        ("sleep", Limits(deadline_s=2), "did not end within 2 s"),
        ("allocate", QUICK, "failed: MemoryError"),
        ("fail", QUICK, r"failed: ValueError: a reason\\x1b\[2J$"),
    ],
)
def test_how_a_child_ends_is_told(entry: str, limits: Limits, says: str):
    with pytest.raises(ChildDied, match=says):
        run_in_child(f"{ENTRIES}:{entry}", b"", limits)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_a_child_whose_asker_died_while_it_started_ends():
    asking = f"from skyfan.sandbox import *; run_in_child('{ENTRIES}:sleep', b'', Limits())"
    with subprocess.Popen([sys.executable, "-c", asking]) as asker:
        while not (children := psutil.Process(asker.pid).children()):
            assert asker.poll() is None
        asker.kill()  # milliseconds after the start: the child is an interpreter that has run nothing of ours yet
    _, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert not alive


@needs_landlock
def test_a_confined_thread_cannot_write_while_others_can(tmp_path: Path):
    thread = ConfinedThread()
    assert thread.run(lambda: tried(lambda: (tmp_path / "a").write_text("x"))) == "PermissionError"
    assert tried(lambda: (tmp_path / "b").write_text("x")) == "done"
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 // 0)


def test_the_status_is_what_was_found_out():
    found = sandbox_status()
    assert found.landlock == landlock_version()
    assert found.writes_confined == (landlock_version() > 0)
    if landlock_version() >= NETWORK_FROM:
        assert found.network_closed
