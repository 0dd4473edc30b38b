"""The benchmark's own store answers as S3 does, so that the executor reads from it, and keeps to its folder."""

import http.client
import threading

import pytest

from benchmarks.range_server import BUCKET, CREDIT_S, RangeServer, Throttle

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def connection(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "sky.pt").write_bytes(CONTENT)
    (tmp_path / "secret").write_bytes(b"not yours")
    with RangeServer(folder, bytes_per_s=None) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        opened = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        yield opened
        opened.close()
        server.shutdown()


def get(connection, path=f"/{BUCKET}/sky.pt", **headers):
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_whole_ranges_and_tails(connection):
    assert get(connection)[:2] == (200, CONTENT)
    status, body, headers = get(connection, Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, CONTENT[10:20], "bytes 10-19/1024")
    assert get(connection, Range="bytes=-24")[:2] == (206, CONTENT[-24:])
    assert get(connection, Range="bytes=1000-2000")[:2] == (206, CONTENT[1000:])


def test_refusals_leave_the_connection_usable(connection):
    assert get(connection, Range="bytes=1024-1030")[0] == 416
    assert get(connection, If_Match='"another"')[0] == 412
    assert get(connection, f"/{BUCKET}/none.pt")[0] == 404
    etag = get(connection)[2]["ETag"]
    assert get(connection, If_Match=etag)[0] == 200


def test_nothing_outside_the_folder(connection):
    assert get(connection, f"/{BUCKET}/../secret")[0] == 404
    assert get(connection, f"/{BUCKET}//etc/hostname")[0] == 404
    assert get(connection, "/other/sky.pt")[0] == 404


def test_the_rate_is_that_of_all_readers_together():
    throttle = Throttle(bytes_per_s=1000)
    waits = [throttle.reserve(100, now=10.0) for _ in range(10)]
    assert waits[-1] == pytest.approx(1.0 - CREDIT_S)
    assert throttle.reserve(100, now=20.0) == pytest.approx(0.1 - CREDIT_S)
    assert Throttle(None).reserve(10**9, now=0.0) == 0
