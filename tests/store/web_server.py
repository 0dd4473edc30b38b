"""A server of files as there are many: with ranges or without, behind a redirection, or as Google and Azure answer."""

import contextlib
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


class WebServer(ThreadingHTTPServer):
    """Serves `files`, path → content. Below `/plain/` it ignores ranges, below `/moved/` it redirects to the file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.etag = '"1"'
        self.sent_bytes = 0
        self.ranges: list[str] = []
        self.break_after_bytes: int | None = None
        """Once, the connection breaks after so much of a file."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        self._answer(send=True)

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def _answer(self, *, send: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        if path.startswith("/moved/"):
            self._send(302, b"", {"Location": quote(path.removeprefix("/moved"))}, send=send)
            return
        content = self.server.files.get(path.removeprefix("/plain"))
        if content is None:
            self._send(404, b"", {}, send=send)
            return
        headers = {"ETag": self.server.etag, "Last-Modified": formatdate(usegmt=True)} if self.server.etag else {}
        if self.headers.get("If-Match", self.server.etag) != self.server.etag:
            self._send(412, b"", headers, send=send)
            return
        self.server.ranges.append(self.headers.get("Range", ""))
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found or path.startswith("/plain/"):
            self._send(200, content, headers, send=send)
            return
        first = int(found[1]) if found[1] else len(content) - int(found[2])
        last = min(int(found[2]) + 1, len(content)) if found[1] and found[2] else len(content)
        part = {"Content-Range": f"bytes {first}-{last - 1}/{len(content)}"}
        self._send(206, content[first:last], headers | part, send=send)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, send: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if send and self.server.break_after_bytes is not None and len(content) > self.server.break_after_bytes:
            content, self.server.break_after_bytes = content[: self.server.break_after_bytes], None
            self.close_connection = True
        if send:
            self.server.sent_bytes += len(content)  # before, as the other side goes on when it has them
            with contextlib.suppress(ConnectionError):  # the other side may be gone
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """A server on a port that was free."""
    server = WebServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
