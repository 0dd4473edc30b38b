"""S3 as strict as AWS's: every request is answered by what a role's policy allows, and by the rule for absent keys.

"HeadObject", https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html (read 2026-11): for a key that is not
there, 404 to callers with s3:ListBucket, else 403. That question carries no prefix, so that a grant under a condition
on `s3:prefix` does not cover it. Emulators answer 404 to everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from .iam import Document, is_allowed

_LISTED = (
    "<Contents><Key>{}</Key><Size>{}</Size><ETag>&quot;1&quot;</ETag>"
    "<LastModified>2026-11-26T00:00:00.000Z</LastModified></Contents>"
)


class _Requests(BaseHTTPRequestHandler):
    """One bucket-and-key address a request, path-style."""

    objects: Mapping[str, bytes]
    policy: Document
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._object()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if "list-type" in address.query:
            self._list(address.path.strip("/"), parse_qs(address.query).get("prefix", [""])[0])
        else:
            self._object()

    def _list(self, bucket: str, prefix: str) -> None:
        if not is_allowed(self.policy, "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": prefix}):
            self._answer(403)
            return
        found = [name for name in sorted(self.objects) if name.startswith(f"{bucket}/{prefix}")]
        listed = (_LISTED.format(escape(name.partition("/")[2]), len(self.objects[name])) for name in found)
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(listed)}</ListBucketResult>"
        self._answer(200, body.encode())

    def _object(self) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        if not is_allowed(self.policy, "s3:GetObject", f"arn:aws:s3:::{name}"):
            self._answer(403)
        elif name in self.objects:
            self._part(self.objects[name], self.headers.get("Range"))
        else:
            lists = is_allowed(self.policy, "s3:ListBucket", f"arn:aws:s3:::{name.partition('/')[0]}")
            self._answer(404 if lists else 403)

    def _part(self, content: bytes, asked: str | None) -> None:
        """The whole object, or one range of it: `bytes=a-b` or `bytes=-n`."""
        if asked is None:
            self._answer(200, content)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        self._answer(206, content[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(content)}")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        facts = {"ETag": '"1"', "Last-Modified": "Thu, 26 Nov 2026 00:00:00 GMT", "Content-Length": str(len(body))}
        for header, value in (facts | headers).items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def strict_s3(objects: Mapping[str, bytes], policy: Document) -> Iterator[str]:
    """Serves `objects` (`bucket/key` → content) to the holder of `policy`; the endpoint's URL."""
    handler = type("Requests", (_Requests,), {"objects": objects, "policy": policy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
