"""Files from the web, whole and checked, also after a stop."""

import hashlib
import inspect
import sys
from pathlib import Path

import pytest

from skyfan.curation import fetch
from skyfan.errors import BadInput, LocationError
from tests.store.web_server import web_server

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web():
    with web_server() as server:
        server.files["/sky.npy"] = CONTENT
        yield server


@pytest.mark.parametrize("address", ["/sky.npy?download=1", "/plain/sky.npy", "/moved/sky.npy"])
def test_a_file_is_copied_into_a_folder_and_checked(web, tmp_path, address):
    report = fetch(f"{web.url}{address}", tmp_path, SHA256.upper())
    assert (tmp_path / "sky.npy").read_bytes() == CONTENT
    assert (report.size_bytes, report.sha256, report.resumed_bytes) == (len(CONTENT), SHA256, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["sky.npy"]


def test_a_copy_that_was_stopped_goes_on_where_it_was(web, tmp_path):
    def stop(done, _total):
        if done > 2 * 2**20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{web.url}/sky.npy", tmp_path / "sky.npy", progress=stop)
    assert not (tmp_path / "sky.npy").exists()
    before = web.sent_bytes
    report = fetch(f"{web.url}/sky.npy", tmp_path / "sky.npy", SHA256)
    assert (tmp_path / "sky.npy").read_bytes() == CONTENT
    assert report.resumed_bytes >= 2 * 2**20
    assert web.ranges[-1] == f"bytes={report.resumed_bytes}-"
    assert before > 0


def test_a_file_that_changed_meanwhile_begins_anew(web, tmp_path):
    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{web.url}/sky.npy", tmp_path / "sky.npy", progress=stop)
    web.files["/sky.npy"], web.etag = CONTENT[::-1], '"2"'
    assert fetch(f"{web.url}/sky.npy", tmp_path / "sky.npy").resumed_bytes == 0
    assert (tmp_path / "sky.npy").read_bytes() == CONTENT[::-1]


def test_a_broken_connection_is_taken_up_again(web, tmp_path):
    web.break_after_bytes = 3 * 2**20
    assert fetch(f"{web.url}/sky.npy", tmp_path / "sky.npy", SHA256).size_bytes == len(CONTENT)


@pytest.mark.parametrize(
    ("address", "options", "error", "told"),
    [
        ("{url}/none.npy", {}, LocationError, "answers 404"),
        ("{url}/sky.npy", {"sha256": "0" * 64}, BadInput, "has the SHA-256"),
        ("{url}/sky.npy", {"sha256": "abc"}, BadInput, "64 hex digits"),
        ("file:///etc/passwd", {}, BadInput, "no address that begins with https"),
        ("http://127.0.0.1:9/x", {}, LocationError, "cannot be reached"),
        ("{url}/", {}, BadInput, "name the file to write"),
    ],
)
def test_what_cannot_be_copied_is_told_and_nothing_is_left(web, tmp_path, address, options, error, told):
    with pytest.raises(error, match=told):
        fetch(address.format(url=web.url), tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_left_alone(web, tmp_path):
    (tmp_path / "sky.npy").write_bytes(b"mine")
    with pytest.raises(BadInput, match="exists already"):
        fetch(f"{web.url}/sky.npy", tmp_path)
    assert (tmp_path / "sky.npy").read_bytes() == b"mine"


def test_google_drive_needs_gdown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(LocationError, match=r"needs gdown: pip install 'skyfan\[fetch\]'"):
        fetch("https://drive.google.com/file/d/1a/view?usp=sharing", tmp_path / "sky.h5")


def test_gdown_is_asked_for_a_whole_file(tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    asked = inspect.signature(gdown.download)

    def download(*given, **options):
        Path(asked.bind(*given, **options).arguments["output"]).write_bytes(CONTENT)

    monkeypatch.setattr(gdown, "download", download)
    report = fetch("https://drive.google.com/file/d/1a/view?usp=sharing", tmp_path / "sky.npy", SHA256)
    assert (report.sha256, (tmp_path / "sky.npy").read_bytes()) == (SHA256, CONTENT)


def test_another_file_of_google_drive_is_not_taken_for_one_that_was_stopped(tmp_path, monkeypatch):
    gdown = pytest.importorskip("gdown")
    asked = inspect.signature(gdown.download)

    def download(*given, **options):
        output = Path(asked.bind(*given, **options).arguments["output"])
        if not output.exists():  # as gdown does: what is there is whole
            output.write_bytes(given[0].encode())
        if "/d/1a/" in given[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(gdown, "download", download)
    one, other = (f"https://drive.google.com/file/d/{name}/view" for name in ("1a", "2b"))
    with pytest.raises(KeyboardInterrupt):
        fetch(one, tmp_path / "sky.npy")
    fetch(other, tmp_path / "sky.npy")
    assert (tmp_path / "sky.npy").read_bytes() == other.encode()
