"""Compiled code is kept where only this user can write."""

import stat
from pathlib import Path

import pytest

from skyfan.engines.compile_cache import private_folder
from skyfan.errors import BadInput


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_folder_is_the_users_own_and_stays(tmp_path: Path) -> None:
    folder = private_folder("abc-torch-2.13")
    assert folder == tmp_path / "skyfan/inductor/abc-torch-2.13"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder("abc-torch-2.13") == folder


def test_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    private_folder("abc")
    (tmp_path / "skyfan/inductor").chmod(0o777)
    with pytest.raises(BadInput, match=r"can be written by other users; run `chmod go-w .*skyfan/inductor`"):
        private_folder("abc")


def test_without_a_cache_folder_a_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = private_folder("abc")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()
