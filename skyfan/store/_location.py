"""What a URI means: which kind of store, which bucket, which key."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from skyfan.errors import LocationError

Scheme = Literal["file", "s3", "gs", "az", "http", "memory"]
StrPath = str | os.PathLike[str]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_FORGOTTEN_SLASHES = re.compile(r"(s3|gs|az|https?|hf|file|memory):(?!//)", re.IGNORECASE)
_KNOWN = (
    "a plain path, file:///folder/name, s3://bucket/key, gs://bucket/key, az://container/key, https://host/path, "
    "hf://datasets/owner/name/path or memory://key"
)
HUB = "https://huggingface.co"
_HUB_PATH = re.compile(r"datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URI.

    `key` is an absolute path for files and the object's key elsewhere. `bucket` is a bucket of S3 or Google's, a
    container of Azure's, or a web server (`https://host:port`); empty for others.
    """

    scheme: Scheme
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The canonical spelling: absolute plain paths for files."""
        if self.scheme == "file":
            return self.key
        if self.scheme == "http":
            return f"{self.bucket}/{quote(self.key)}"
        if self.scheme != "memory":
            return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"
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
    if scheme in ("s3", "gs", "az"):
        return _bucket(text, scheme, rest)
    if scheme in ("http", "https"):
        return _web(text)
    if scheme == "hf":
        return _hub(text, rest)
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


def _bucket(text: str, scheme: str, rest: str) -> Location:
    bucket, _, key = rest.partition("/")
    known: dict[str, Scheme] = {"s3": "s3", "gs": "gs", "az": "az"}
    form = f"{scheme}://{'container' if scheme == 'az' else 'bucket'}/key"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,254}", bucket):
        raise LocationError(f"{text!r} has no valid bucket name; write {form}.")
    return Location(known[scheme], bucket, _checked_key(text, key, form))


def _checked_key(text: str, key: str, form: str) -> str:
    key = key.strip("/")
    if any(segment in ("", ".", "..") for segment in key.split("/")) and key:
        raise LocationError(f"{text!r} has an empty, '.' or '..' part in its key; write {form}.")
    return key


def _web(text: str) -> Location:
    parts = urlsplit(text)
    if parts.query or parts.fragment or parts.username:
        raise LocationError(
            f"{text!r} has a query, a fragment or a name in it, which addresses that are read by ranges lack; copy the "
            "file here with `skyfan data fetch`."
        )
    if not parts.netloc:
        raise LocationError(f"{text!r} names no host; write https://host/path.")
    server = f"{parts.scheme.lower()}://{parts.netloc.lower()}"
    return Location("http", server, _checked_key(text, unquote(parts.path), "https://host/path"))


def _hub(text: str, rest: str) -> Location:
    """https://huggingface.co/docs/hub/datasets-downloading: a file of a dataset, of its main branch unless named."""
    found = _HUB_PATH.fullmatch(rest)
    if found is None:
        raise LocationError(f"{text!r} is no file of a dataset; write hf://datasets/owner/name/path.")
    name, revision, path = found.groups()
    return _web(f"{HUB}/datasets/{name}/resolve/{revision or 'main'}/{quote(path)}")


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
