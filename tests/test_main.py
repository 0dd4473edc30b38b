"""How the command line starts, is refused where it does not run, and ends."""

import subprocess
import sys

import pytest

from skyfan.__main__ import main
from skyfan.errors import Interrupted

HANGING = f"""
import sys, threading, types

def command_line():
    threading.Thread(target=threading.Event().wait).start()  # a read that never returns
    print("stopped", flush=True)
    sys.exit({Interrupted.exit_code})

sys.modules["skyfan.cli"] = types.SimpleNamespace(main=command_line)
sys.argv = ["skyfan", "run"]
from skyfan.__main__ import main
main()
"""


def test_native_windows_is_refused_before_anything_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "skyfan.cli", None)  # an import of it would fail
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "skyfan: runs on Linux and macOS; on Windows, start it in WSL 2 or in a container.\n"
    )


def test_a_thread_that_hangs_does_not_keep_an_interrupted_process():
    with subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "stopped\n"
            assert child.wait(timeout=60) == Interrupted.exit_code == 130
        finally:
            child.kill()
