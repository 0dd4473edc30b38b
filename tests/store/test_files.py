"""What only local files have: permissions, folders, temporaries."""

import contextlib
import ctypes
import errno
import os
import socket
import threading

import pytest

from skyfan import store
from skyfan.errors import LocationError
from tests.store.conftest import race_to_put_new


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_way_on(number):
    with (
        pytest.raises(LocationError, match=r"x\.pt cannot be written: .*; free some space there or choose"),
        store.named_errors("x.pt", "written"),
    ):
        raise OSError(number, os.strerror(number))


def test_a_folder_is_not_an_object(tmp_path):
    assert not store.exists(tmp_path)
    for call in (store.read, store.head):
        with pytest.raises(LocationError, match="is not a file but a folder"):
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


@pytest.mark.parametrize("put", [store.put, store.put_new])
def test_what_is_removed_as_soon_as_it_is_there_was_written(tmp_path, put):
    """As the last rank of a group does with what the others have just left."""
    uri, stop = str(tmp_path / "x"), threading.Event()

    def remove():
        while not stop.is_set():
            store.delete(uri)

    removing = threading.Thread(target=remove)
    removing.start()
    try:
        for _ in range(100):
            with contextlib.suppress(store.AlreadyExists):
                assert put(uri, b"1").size_bytes == 1
    finally:
        stop.set()
        removing.join(60)


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


def odd_entries(folder):
    """One entry of each kind that is no file: path → what it is called."""
    (folder / "sub").mkdir()
    (folder / "linked").symlink_to(folder / "sub")
    (folder / "dangling").symlink_to(folder / "nothing")
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    return {
        "sub": store.FOLDER,
        "linked": store.LINKED_FOLDER,
        "dangling": store.DANGLING_LINK,
        "fifo": "a FIFO",
        "device": "a device",
        "socket": "a socket",
    }


@pytest.mark.parametrize("name", ["fifo", "device", "socket", "sub", "linked"])
def test_what_is_no_file_is_refused_and_never_opened(tmp_path, name):
    kinds = odd_entries(tmp_path)
    kind = store.FOLDER if name == "linked" else kinds[name]
    (tmp_path / "link").symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link"):
        assert not store.exists(path)
        for call in (
            store.read,
            store.head,
            lambda uri: store.read_range(uri, 0, 1),
            lambda uri: store.read_tail(uri, 1),
        ):
            with pytest.raises(LocationError, match=f"{path} is not a file but {kind}"):
                call(path)
        with pytest.raises(LocationError, match="is not a file but"):
            store.copy_in(path, tmp_path / "copy")


def test_a_listing_tells_of_what_it_leaves_out(tmp_path):
    expected = odd_entries(tmp_path)
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "good-link").symlink_to(tmp_path / "x")
    told = {}
    found = [info.uri for info in store.list(tmp_path, told.__setitem__)]
    assert found == [str(tmp_path / "good-link"), str(tmp_path / "x")]
    assert told == {str(tmp_path / name): kind for name, kind in expected.items()}
    assert [info.uri for info in store.list(tmp_path)] == found


def test_links_that_lead_to_themselves_are_named(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(LocationError, match=r"/loop cannot be listed: Too many levels of symbolic links"):
        list(store.list(tmp_path))


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(LocationError, match=r"b\\udcff' is not UTF-8"):
        store.head(os.fsdecode(b"/tmp/b\xff"))


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def no_hard_links(request, monkeypatch):
    """As on FAT and on many network file systems."""

    def link(*_args, **_options):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_hard_links")
def test_create_only_puts_without_hard_links_have_one_winner(tmp_path):
    uri = tmp_path / "run" / "x"
    assert race_to_put_new(uri) == [store.read(uri)]
    assert [path.name for path in uri.parent.iterdir()] == ["x"]


@pytest.mark.usefixtures("no_hard_links")
def test_a_file_system_that_cannot_keep_writers_apart_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())  # a C library without renameat2
    with pytest.raises(LocationError, match=r"neither hard links nor .*choose an --output on another file system"):
        store.put_new(tmp_path / "x", b"1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "utime"])
def test_file_systems_without_fsync_or_times_are_written_to(tmp_path, monkeypatch, call):
    def refuse(*_args, **_options):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, call, refuse)
    store.put_new(tmp_path / "x", b"1")
    assert store.read(tmp_path / "x") == b"1"
