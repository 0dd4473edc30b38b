"""S3 as boto3's users expect it, and what they are told when it fails."""

import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from skyfan import store
from skyfan.errors import LocationError, Transient

pytestmark = pytest.mark.slow

BUCKET = "skyfan-test"


def test_listing_goes_past_one_thousand_keys(s3):
    for index in range(1_203):  # behind the server's back: 1,203 requests would take seconds
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, f"run/{index:05d}.json", b"")
    listed = [info.uri for info in store.list(f"s3://{BUCKET}/run")]
    assert listed == [f"s3://{BUCKET}/run/{index:05d}.json" for index in range(1_203)]


def test_folders_made_in_a_console_are_not_objects_of_the_listing(s3):
    s3.put_object(Bucket=BUCKET, Key="data/", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="data/1.pt", Body=b"x")
    assert [info.uri for info in store.list(f"s3://{BUCKET}/data/")] == [f"s3://{BUCKET}/data/1.pt"]


def test_large_reads_are_cut_into_parts(s3):
    content = bytes(range(256)) * (20 * 2**20 // 256)
    s3.put_object(Bucket=BUCKET, Key="big", Body=content)
    stats = store.ReadStats()
    assert store.read(f"s3://{BUCKET}/big", stats=stats) == content
    assert (stats.requests, stats.bytes_read) == (3, len(content))


def test_an_interrupted_upload_leaves_no_parts(s3, tmp_path):
    (tmp_path / "source").write_bytes(bytes(40 * 2**20))

    def interrupt(sent_bytes):
        if sent_bytes > 20 * 2**20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.copy_in(tmp_path / "source", f"s3://{BUCKET}/copy", interrupt)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert not store.exists(f"s3://{BUCKET}/copy")


def test_missing_bucket(s3):
    for call in (store.read, lambda uri: store.put(uri, b""), lambda uri: list(store.list(uri))):
        with pytest.raises(LocationError, match="the bucket does not exist") as caught:
            call("s3://skyfan-no-such-bucket/x")
        assert "s3://skyfan-no-such-bucket/x" in str(caught.value)


def test_unreachable_endpoint_is_one_sentence(aws_environment):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        aws_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        for call in (store.read, store.head, lambda uri: store.put(uri, b""), lambda uri: list(store.list(uri))):
            with pytest.raises(LocationError, match=r"^s3://skyfan-test/x cannot be reached; .*AWS_ENDPOINT_URL\.$"):
                call("s3://skyfan-test/x")


def test_the_service_endpoint_wins(s3, s3_endpoint, aws_environment):
    aws_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    aws_environment.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    store.put(f"s3://{BUCKET}/x", b"1")
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"1"


def test_credentials_and_region_of_a_profile(s3, aws_environment, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        aws_environment.delenv(name)
    aws_environment.setenv("AWS_PROFILE", "astronomer")
    (tmp_path / "aws-config").write_text("[profile astronomer]\nregion = eu-central-1\n")
    (tmp_path / "aws-credentials").write_text("[astronomer]\naws_access_key_id = one\naws_secret_access_key = two\n")
    store.put(f"s3://{BUCKET}/x", b"1")
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"1"


def test_a_profile_that_is_not_there(aws_environment):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        aws_environment.delenv(name)
    aws_environment.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(LocationError, match="no AWS credentials were found; set AWS_PROFILE"):
        store.head("s3://skyfan-test/x")


def test_static_credentials_need_no_boto3(s3):
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"1")
    program = (
        "import sys; from skyfan import store; "
        f"assert store.read('s3://{BUCKET}/x') == b'1'; "
        "assert not {'boto3', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.fixture
def failing_server(aws_environment):
    """A server that answers every request in the way that the test sets."""

    class Handler(BaseHTTPRequestHandler):
        answer = b""

        def do_GET(self):
            start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0]
            self.wfile.write(self.answer.replace(b"START", start.encode()))
            self.close_connection = True

        do_HEAD = do_PUT = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    aws_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


def _response(status, code):
    body = f"<Error><Code>{code}</Code><Message>says the server</Message></Error>".encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        ("503 Slow Down", "SlowDown", Transient, "busy"),
        ("500 Internal", "InternalError", Transient, "busy"),
        ("403 Forbidden", "AccessDenied", LocationError, "access denied"),
        ("403 Forbidden", "SignatureDoesNotMatch", LocationError, "credentials were refused"),
        ("400 Bad Request", "ExpiredToken", LocationError, "credentials were refused"),
        ("301 Moved Permanently", "PermanentRedirect", LocationError, "AWS_REGION"),
        ("404 Not Found", "NoSuchBucket", LocationError, "bucket does not exist"),
        ("404 Not Found", "NoSuchKey", LocationError, "does not exist"),
    ],
)
def test_what_s3_answers_becomes_a_sentence(failing_server, status, code, error, words):
    failing_server.answer = _response(status, code)
    with pytest.raises(error, match=words) as caught:
        store.read("s3://skyfan-test/x")
    assert str(caught.value).startswith("s3://skyfan-test/x")
    assert "\n" not in str(caught.value)


def test_a_head_has_no_body_to_tell_of_expired_credentials(failing_server):
    failing_server.answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(LocationError, match="expired credentials; renew them"):
        store.exists("s3://skyfan-test/x")


def test_a_connection_broken_midway_is_transient(failing_server):
    failing_server.answer = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 900\r\nContent-Range: bytes START-999/1000\r\n"
        b'Last-Modified: Tue, 01 Jan 2030 00:00:00 GMT\r\nETag: "x"\r\n\r\nonly this'
    )
    with pytest.raises(Transient, match="s3://skyfan-test/x"):
        store.read_range("s3://skyfan-test/x", 100, 1_000)


def test_the_servers_time(s3, aws_environment, tmp_path):
    now = store.server_time(f"s3://{BUCKET}/run")
    assert abs((datetime.now(UTC) - now).total_seconds()) < 60
    aws_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert store.server_time(f"s3://{BUCKET}/run") is None
    assert store.server_time(tmp_path) is None
