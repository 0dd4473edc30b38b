"""What only local files have: permissions, folders, temporaries."""

import os
import threading

import pytest

from skyfan import store
from skyfan.errors import LocationError


def test_a_folder_is_not_an_object(tmp_path):
    assert not store.exists(tmp_path)
    for call in (store.read, store.head):
        with pytest.raises(LocationError, match="is not a file"):
            call(tmp_path)


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(LocationError, match="cannot be written"):
        store.put(tmp_path / "x" / "y", b"1")


def test_new_files_have_the_users_usual_mode(tmp_path):
    previous = os.umask(0o027)
    try:
        store.put(tmp_path / "x", b"")
    finally:
        os.umask(previous)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_readers_see_the_old_or_the_new_content_and_never_a_mixture(tmp_path):
    uri, stop = tmp_path / "x", threading.Event()
    store.put(uri, b"a" * 100_000)

    def write():
        while not stop.is_set():
            for letter in (b"b", b"a"):
                store.put(uri, letter * 100_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {len(set(store.read(uri))) for _ in range(200)} == {1}
    finally:
        stop.set()
        writer.join()
    assert [info.uri for info in store.list(tmp_path)] == [str(uri)]


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    store.put(tmp_path / "x", b"old")
    (tmp_path / "source").write_bytes(bytes(2**20))

    def refuse(_):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.copy_in(tmp_path / "source", tmp_path / "x", refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "x"]
    assert store.read(tmp_path / "x") == b"old"


def test_etags_of_quick_rewrites_differ(tmp_path):
    etags = {store.put(tmp_path / "x", b"1").etag for _ in range(50)}
    assert len(etags) == 50


def test_unreadable_file(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "x").chmod(0)
    with pytest.raises(LocationError, match="may not be read"):
        store.read(tmp_path / "x")
