"""A real S3 server in this process, and the environment that points to it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest

from skyfan import store
from tests.moto_server import moto_server
from tests.store.faulty_proxy import FaultyProxy

BUCKET = "skyfan-test"


def race_to_put_new(uri) -> list[bytes]:
    """Eight writers put this object at once; what those wrote that were told that they did."""
    start = threading.Barrier(8)

    def commit(writer):
        start.wait(timeout=10)
        try:
            store.put_new(uri, b"%d" % writer)
        except store.AlreadyExists:
            return None
        return b"%d" % writer

    with ThreadPoolExecutor(8) as pool:
        return [written for written in pool.map(commit, range(8)) if written is not None]


@pytest.fixture(scope="session")
def s3_endpoint():
    with moto_server() as url:
        yield url


@pytest.fixture
def aws_environment(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    return monkeypatch


@pytest.fixture
def s3(s3_endpoint, aws_environment):
    """boto3's own client on the server that the store talks to, with an empty bucket."""
    aws_environment.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        if keys := [{"Key": item["Key"]} for item in page.get("Contents", [])]:
            client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def proxy(s3, s3_endpoint, aws_environment):
    """The same server, behind a proxy that fails as the test sets."""
    faulty = FaultyProxy(s3_endpoint)
    thread = threading.Thread(target=faulty.serve_forever, args=(0.01,))
    thread.start()
    aws_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{faulty.server_port}")
    yield faulty
    faulty.ended.set()
    faulty.shutdown()
    thread.join()
    faulty.server_close()


@pytest.fixture(params=["file", "s3", "memory"])
def root(request, tmp_path):
    """An empty place of each kind; every store behaves the same."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://{BUCKET}/place"
    return str(tmp_path / "place") if request.param == "file" else f"memory://{tmp_path.name}/{request.node.name}"
