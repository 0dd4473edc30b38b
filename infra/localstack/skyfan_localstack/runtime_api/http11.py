"""As much of HTTP/1.1 (RFC 9112) as a runtime interface client speaks, over asyncio's streams.

A server of our own, because a worker's death is only visible on its connection, which HTTP frameworks hide.
"""

import asyncio
from dataclasses import dataclass

MAX_BODY_BYTES = 64 * 1024 * 1024
_REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large"}


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1, or sends more than any Lambda response may hold."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its whole body; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of the connection, or None when the peer has closed it.

    Raises:
        ProtocolError: see there.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        return Request(method, path, headers, await _body(reader, headers))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise ProtocolError(f"not an HTTP/1.1 request: {error}") from error


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(_within(int(headers.get("content-length", "0"))))
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _within(len(body) + size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers: the runtime client's error type is in the body as well
    return bytes(body)


def _within(size_bytes: int) -> int:
    if not 0 <= size_bytes <= MAX_BODY_BYTES:
        raise ProtocolError(f"a body of {size_bytes} bytes is more than {MAX_BODY_BYTES}")
    return size_bytes


def response(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a response that keeps the connection open."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{lines}\r\n".encode("latin-1") + body
