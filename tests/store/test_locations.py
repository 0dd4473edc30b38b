"""URIs: what they mean, and what the user is told when one is wrong."""

from pathlib import Path

import pytest

from skyfan import store
from skyfan.errors import LocationError


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("runs/demo", ("predictions", "rank-0.parquet"), "runs/demo/predictions/rank-0.parquet"),
        ("s3://bucket", ("a", "b"), "s3://bucket/a/b"),
        ("s3://bucket/run/", ("/a/",), "s3://bucket/run/a"),
        ("memory://", ("x",), "memory://x"),
        ("/", ("tmp",), "/tmp"),
        ("runs", (), "runs"),
    ],
)
def test_join(uri, parts, joined):
    assert store.join(uri, *parts) == joined


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/key", "unknown scheme ftp://"),
        ("s3:/bucket/key", "two slashes"),
        ("s3://", "bucket name"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/../b", "'..'"),
        ("file://host/share/x.pt", "three slashes"),
        ("~nobody-of-that-name/x", "home folder"),
        ("", "not a location"),
    ],
)
def test_a_wrong_uri_is_one_sentence_that_names_it(uri, words):
    with pytest.raises(LocationError) as caught:
        store.head(uri)
    message = str(caught.value)
    assert words in message
    assert repr(uri) in message
    assert "\n" not in message


def test_unknown_scheme_names_the_known_ones():
    with pytest.raises(LocationError, match=r"file:///.*s3://.*memory://"):
        store.read("ftp://example.org/x.pt")


def test_every_spelling_of_a_local_file_is_the_same_file(tmp_path, monkeypatch):
    folder = tmp_path / "my data #1%20"
    folder.mkdir()
    (folder / "x.pt").write_bytes(b"abc")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = ["x.pt", str(folder / "x.pt"), (folder / "x.pt").as_uri(), f"~/{folder.name}/x.pt", Path("x.pt")]
    assert {store.head(spelling).uri for spelling in spellings} == {str(folder / "x.pt")}
    assert store.local_path("s3://bucket/x.pt") is None


def test_a_bucket_alone_names_no_object():
    with pytest.raises(LocationError, match="names no object"):
        store.read("s3://bucket")
