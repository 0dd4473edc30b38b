"""An HTTP proxy before an S3 server that fails in the way that a test sets."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Choose = Callable[[str, str, dict[str, str]], str]
"""Method, path and headers (names in lower case) → the fault: "" for none, a status code, or a name below."""

CODES = {"503": "SlowDown", "409": "ConditionalRequestConflict", "412": "PreconditionFailed", "501": "NotImplemented",
         "400": "InvalidArgument", "403": "AccessDenied"}  # fmt: skip


class FaultyProxy(ThreadingHTTPServer):
    """`fault` decides for each request; `requests` counts them.

    reset: closed without an answer, nothing done · lost: done, and closed without an answer · short: half of the
    body, with a length to match · cut: half of the body, and closed · hang: no answer · unconditional: done as if
    there were no condition · elsewhere: the bucket is in eu-central-1
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target.removeprefix("http://")
        self.fault: Choose = lambda *_: ""
        self.requests = 0
        self.ended = threading.Event()

    def first(self, count: int, fault: str, method: str = "") -> None:
        """The first `count` requests of `method` fail so, the others do not."""
        left = iter(range(count))
        lock = threading.Lock()

        def choose(asked: str, _path: str, _headers: dict[str, str]) -> str:
            with lock:
                return fault if method in ("", asked) and next(left, None) is not None else ""

        self.fault = choose


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests += 1
        fault = self.server.fault(self.command, self.path, headers)
        if fault.isdigit() or fault == "elsewhere":
            self.refuse(fault)
        elif fault == "hang":
            self.server.ended.wait(60)
        if fault in ("reset", "hang"):
            self.close_connection = True
        elif not fault.isdigit() and fault != "elsewhere":
            self.forward(fault, headers, body)

    def refuse(self, fault: str) -> None:
        content = f"<Error><Code>{CODES.get(fault, 'X')}</Code></Error>".encode()
        if self.command == "HEAD" or fault == "304":
            content = b""
        self.send_response(301 if fault == "elsewhere" else int(fault))
        if fault == "elsewhere":
            self.send_header("x-amz-bucket-region", "eu-central-1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def forward(self, fault: str, headers: dict[str, str], body: bytes) -> None:
        if fault == "unconditional":
            headers.pop("if-none-match", None)
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        connection.request(self.command, self.path, body, headers)
        found = connection.getresponse()
        content = found.read()
        connection.close()
        if fault == "lost":
            self.close_connection = True
            return
        length = found.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if fault in ("short", "cut"):
            content = content[: len(content) // 2]
        self.send_response(found.status)
        for name, value in found.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)) if fault == "short" else length or "0")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or fault == "cut"

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass
