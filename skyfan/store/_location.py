"""What a URI means: which kind of store, which bucket, which key."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from skyfan.errors import LocationError

Scheme = Literal["file", "s3", "memory"]
StrPath = str | os.PathLike[str]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_FORGOTTEN_SLASHES = re.compile(r"(s3|file|memory):(?!//)", re.IGNORECASE)
_KNOWN = "a plain path, file:///folder/name, s3://bucket/key or memory://key"


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URI.

    `key` is an absolute path for files and the object's key elsewhere; `bucket` is empty but for S3.
    """

    scheme: Scheme
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The canonical spelling: absolute plain paths for files."""
        if self.scheme == "file":
            return self.key
        if self.scheme == "s3":
            return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"
        return f"memory://{self.key}"

    def with_key(self, key: str) -> "Location":
        """The same store, another object."""
        return Location(self.scheme, self.bucket, key)


def parse(uri: StrPath) -> Location:
    """`uri` as a `Location`; `LocationError` for an unknown scheme or a malformed address."""
    text = os.fspath(uri)
    if not text or "\0" in text:
        raise LocationError(f"{text!r} is not a location; write {_KNOWN}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LocationError(f"{text!r} is not UTF-8, as plans and results need it; rename it.") from error
    match = _SCHEME.fullmatch(text)
    if match is None:
        if _FORGOTTEN_SLASHES.match(text):
            raise LocationError(f"{text!r} lacks the two slashes after its scheme; write {_KNOWN}.")
        return _file(text)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "s3":
        return _s3(text, rest)
    if scheme == "file":
        return _file_uri(text)
    if scheme == "memory":
        return Location("memory", "", rest.strip("/"))
    raise LocationError(f"{text!r} has the unknown scheme {scheme}://; write {_KNOWN}.")


def _file(text: str) -> Location:
    try:
        # not Path.resolve(), which follows links
        return Location("file", "", os.path.abspath(Path(text).expanduser()))  # noqa: PTH100
    except RuntimeError as error:
        raise LocationError(f"{text!r} names a home folder that does not exist; write the whole path.") from error


def _file_uri(text: str) -> Location:
    parts = urlsplit(text.replace("#", "%23").replace("?", "%3F"))
    if parts.netloc not in ("", "localhost"):
        raise LocationError(
            f"{text!r} names the host {parts.netloc!r}; a file URI has three slashes: file:///folder/name."
        )
    return _file(unquote(parts.path) or "/")


def _s3(text: str, rest: str) -> Location:
    bucket, _, key = rest.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,254}", bucket):
        raise LocationError(f"{text!r} has no valid bucket name; write s3://bucket/key.")
    key = key.strip("/")
    if any(segment in ("", ".", "..") for segment in key.split("/")) and key:
        raise LocationError(f"{text!r} has an empty, '.' or '..' part in its key; write s3://bucket/key.")
    return Location("s3", bucket, key)


def join(uri: StrPath, *parts: str) -> str:
    """`uri` with `parts` below it: `join("s3://b/run", "predictions", "rank-0.parquet")`."""
    text = os.fspath(uri)
    base = text if text.endswith("://") else text.rstrip("/")
    names = [name for name in (part.strip("/") for part in parts) if name]
    if not names:
        return text
    tail = "/".join(names)
    if not text:
        return tail
    return f"{base}{tail}" if base.endswith("://") else f"{base}/{tail}"


def canonical(uri: StrPath) -> str:
    """The spelling in which `list` and `head` give URIs: absolute paths for files."""
    return parse(uri).uri


def local_path(uri: StrPath) -> Path | None:
    """The file or folder of a local URI; `None` where the URI is not local."""
    location = parse(uri)
    return Path(location.key) if location.scheme == "file" else None
