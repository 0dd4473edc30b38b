"""Where the command line does not run, it is refused in one sentence."""

import sys

import pytest

from skyfan.__main__ import main


def test_native_windows_is_refused_before_anything_is_imported(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "skyfan.cli", None)  # an import of it would fail
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "skyfan: runs on Linux and macOS; on Windows, start it in WSL 2 or in a container.\n"
    )
