"""A small object store on loopback that gives files at a set rate: GET and HEAD as S3 answers them, read-only.

`python -m benchmarks.range_server FOLDER [--rate-mb-s N]` prints its port and ends when its standard input closes.
The rate (MB is 10^6 bytes) is that of all connections together, as a link's is. Signatures are not checked.
"""

import argparse
import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUCKET = "bench"
CHUNK_BYTES = 128 * 2**10
MAX_CONNECTIONS = 64
IDLE_LIMIT_S = 60.0
# A chunk that comes late may be caught up with, so that a busy machine does not lower the rate; but no more than this.
CREDIT_S = 0.05
_RANGE = re.compile(r"bytes=(\d+)-(\d+)$")
_SUFFIX = re.compile(r"bytes=-(\d+)$")


class Throttle:
    """Lets `bytes_per_s` through, over all threads; everything where that is None."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self, size_bytes: int, now: float) -> float:
        """Seconds to wait until `size_bytes` more have passed."""
        if self._bytes_per_s is None:
            return 0.0
        with self._lock:
            self._next = max(self._next, now - CREDIT_S) + size_bytes / self._bytes_per_s
            return max(0.0, self._next - now)


class RangeServer(ThreadingHTTPServer):
    """The files of one folder as objects of one bucket."""

    daemon_threads = True

    def __init__(self, folder: Path, bytes_per_s: float | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder.resolve()
        self.throttle = Throttle(bytes_per_s)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """One connection; more than `MAX_CONNECTIONS` wait for their turn."""
        with self._places:
            super().process_request_thread(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_LIMIT_S
    # Head and body are two packets: the second must not wait for the first one's acknowledgement (40 ms).
    disable_nagle_algorithm = True
    server: RangeServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass

    def _answer(self, *, body: bool) -> None:
        path = self._file()
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
            span = self._span(status.st_size)
            if self.headers.get("If-Match", etag) != etag:
                self._refuse(HTTPStatus.PRECONDITION_FAILED)
                return
            if span is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            start, stop = span
            partial = "Range" in self.headers
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
            self.end_headers()
            if body:
                self._send(file.fileno(), start, stop)

    def _file(self) -> Path | None:
        """The file that the URL names, if it is one of the folder's own."""
        bucket, _, key = self.path.partition("?")[0].lstrip("/").partition("/")
        path = (self.server.folder / key).resolve()
        inside = path.parent == self.server.folder and path.is_file()
        return path if bucket == BUCKET and inside else None

    def _span(self, size: int) -> tuple[int, int] | None:
        """[start, stop) of the object; None where there is no such range."""
        text = self.headers.get("Range")
        if text is None:
            return 0, size
        if found := _SUFFIX.match(text):
            return max(0, size - int(found[1])), size
        found = _RANGE.match(text)
        if not found or int(found[1]) >= size or int(found[2]) < int(found[1]):
            return None
        return int(found[1]), min(int(found[2]) + 1, size)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, file: int, start: int, stop: int) -> None:
        self.wfile.flush()
        while start < stop:
            size = min(CHUNK_BYTES, stop - start)
            time.sleep(self.server.throttle.reserve(size, time.monotonic()))
            # The time-out makes the socket non-blocking, and `sendfile` knows nothing of it.
            if not select.select([], [self.connection], [], IDLE_LIMIT_S)[1]:
                raise TimeoutError("the reader has stopped reading")
            start += os.sendfile(self.connection.fileno(), file, start, size)


@contextlib.contextmanager
def range_server(folder: Path, rate_mb_s: float | None = None) -> Iterator[str]:
    """The server in a process of its own; gives its address."""
    command = [sys.executable, "-m", "benchmarks.range_server", str(folder)]
    if rate_mb_s is not None:
        command += ["--rate-mb-s", str(rate_mb_s)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def main() -> None:
    """Serves until nobody holds the other end of standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate-mb-s", type=float)
    arguments = parser.parse_args()
    rate = arguments.rate_mb_s * 1e6 if arguments.rate_mb_s else None
    server = RangeServer(arguments.folder, rate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
