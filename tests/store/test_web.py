"""Data where others put it: web servers by ranges, Google's and Azure's stores, public buckets without credentials."""

import json

import pytest

from skyfan import store
from skyfan.errors import LocationError
from skyfan.store._location import parse
from tests.store.web_server import web_server

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with web_server() as server:
        server.files["/data/my sky.npy"] = CONTENT
        yield server


@pytest.mark.parametrize("folder", ["", "/moved"])
@pytest.mark.parametrize("etag", ['"1"', "", 'W/"1"'])
def test_a_file_on_a_web_server_is_read_by_ranges(web, folder, etag):
    web.etag = etag
    uri = f"{web.url}{folder}/data/my%20sky.npy"
    info = store.head(uri)
    assert (info.uri, info.size_bytes) == (uri, len(CONTENT))
    assert info.etag == ("" if etag.startswith("W/") else etag)
    assert store.read_range(uri, 10, 30, etag=info.etag) == CONTENT[10:30]
    assert store.read_tail(uri, 20)[1] == CONTENT[-20:]
    assert store.read(uri) == CONTENT
    assert web.sent_bytes == 20 + 20 + len(CONTENT)


def test_a_file_that_changed_on_the_server_is_noticed(web):
    info = store.head(f"{web.url}/data/my%20sky.npy")
    web.etag = '"2"'
    with pytest.raises(store.PreconditionFailed, match="has changed"):
        store.read_range(info.uri, 10, 30, etag=info.etag)


def test_a_server_that_ignores_ranges_is_refused_with_the_way_on(web):
    uri = f"{web.url}/plain/data/my%20sky.npy"
    with pytest.raises(LocationError, match=r"ignores ranges.*skyfan data fetch http"):
        store.read_range(uri, 10, 30)


def test_what_a_web_server_cannot_do_is_one_sentence(web):
    with pytest.raises(LocationError, match="do not list folders; name a file"):
        list(store.list(f"{web.url}/data"))
    with pytest.raises(LocationError, match="only read; choose another --output"):
        store.require_create_only(f"{web.url}/run")
    with pytest.raises(store.NotFound, match="does not exist"):
        store.head(f"{web.url}/data/none.npy")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        (
            "hf://datasets/astro/sky/train/1.parquet",
            "https://huggingface.co/datasets/astro/sky/resolve/main/train/1.parquet",
        ),
        ("hf://datasets/astro/sky@v1/a b.h5", "https://huggingface.co/datasets/astro/sky/resolve/v1/a%20b.h5"),
        ("HTTPS://Host.org/a%20b.npy", "https://host.org/a%20b.npy"),
        ("gs://bucket/key", "gs://bucket/key"),
        ("az://container/a/b", "az://container/a/b"),
    ],
)
def test_addresses(uri, address):
    assert store.canonical(uri) == address
    assert parse(address) == parse(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("https://host.org/x.npy?download=1", "skyfan data fetch"),
        ("https://me@host.org/x.npy", "skyfan data fetch"),
        ("https:///x.npy", "names no host"),
        ("https://host.org/../x.npy", "'..'"),
        ("hf://models/x", "hf://datasets/owner/name/path"),
        ("gs://bucket/a//x", "empty"),
        ("az:container/x", "two slashes"),
    ],
)
def test_a_wrong_address_is_one_sentence(uri, words):
    with pytest.raises(LocationError) as caught:
        store.head(uri)
    assert words in str(caught.value)


def test_google_and_azure_are_read_without_credentials(web, monkeypatch, tmp_path):
    web.files["/bucket/sky.npy"] = web.files["/container/sky.npy"] = CONTENT
    key = {"gcs_base_url": web.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
    assert store.read_range("gs://bucket/sky.npy", 5, 9) == CONTENT[5:9]
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", web.url)
    assert store.read_range("az://container/sky.npy", 5, 9) == CONTENT[5:9]


def test_azure_without_an_account_names_the_variable(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(LocationError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        store.head("az://container/x")


@pytest.mark.slow
def test_a_public_bucket_needs_no_credentials(s3, aws_environment):
    s3.put_object(Bucket="skyfan-test", Key="x", Body=CONTENT, ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        aws_environment.delenv(name)
    assert store.read_range("s3://skyfan-test/x", 1, 5) == CONTENT[1:5]
