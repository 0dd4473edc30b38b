"""Copies a file from the web to this machine: what no server gives by ranges, and what Google Drive shares.

A copy that was stopped goes on where it was, and the file appears when it is whole.
"""

import contextlib
import hashlib
import http.client
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from skyfan import store
from skyfan.errors import BadInput, LocationError, Transient
from skyfan.events import Progress, unwatched
from skyfan.plain_text import first_line

PART_BYTES = 2**20
ATTEMPTS = 6
_TIMEOUT_S = 60
_LONGEST_PAUSE_S = 10.0
_DRIVE = ("drive.google.com", "docs.google.com")


class FetchReport(BaseModel):
    """A file that was copied: its path, size and SHA-256, and how much of it an earlier start had copied."""

    path: str
    size_bytes: int
    sha256: str
    resumed_bytes: int


class _Remote(BaseModel):
    """What a server tells of a file. `version` is empty where it tells of none, so that a copy cannot go on."""

    url: str
    size_bytes: int | None
    version: str


def fetch(url: str, target: str | Path, sha256: str | None = None, progress: Progress = unwatched) -> FetchReport:
    """Copies the file at `url` (https, or a share link of Google Drive) to `target`, a new file or a folder.

    Raises:
        BadInput: the address is none of these, `target` exists, or the content has another SHA-256.
        LocationError: the server does not have the file, or gdown is not installed for Google Drive.
        Transient: the connection broke `ATTEMPTS` times without a byte in between.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"{url!r} is no address that begins with https://; buckets are read where they are.")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise BadInput(f"--sha256 {sha256!r} is not 64 hex digits.")
    path = _path(url, Path(target))
    part, resumed_bytes = (_from_drive if parts.hostname in _DRIVE else _from_server)(url, path, progress)
    with store.named_errors(str(part), "read"), part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256.lower():
        part.unlink()
        raise BadInput(f"{url} has the SHA-256 {found}, not {sha256.lower()}; nothing was kept.")
    with store.named_errors(str(path), "written"):
        part.rename(path)
    return FetchReport(path=str(path), size_bytes=path.stat().st_size, sha256=found, resumed_bytes=resumed_bytes)


def _path(url: str, target: Path) -> Path:
    name = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    path = target / name if target.is_dir() else target
    if not name and target.is_dir():
        raise BadInput(f"{url} has no file's name at its end; name the file to write, too.")
    if path.exists():
        raise BadInput(f"{path} exists already; name another file, or remove it.")
    with store.named_errors(str(path.parent), "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _from_server(url: str, path: Path, progress: Progress) -> tuple[Path, int]:
    """The copy under its temporary name, and how many bytes of it were there before."""
    remote = _asked(url)
    key = hashlib.sha256(f"{url} {remote.version} {remote.size_bytes}".encode()).hexdigest()[:16]
    part = path.with_name(f".{path.name[:200]}.{key}.part")
    if not remote.version:
        part.unlink(missing_ok=True)
    resumed_bytes = part.stat().st_size if part.exists() else 0
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _copy(remote, part, before, progress)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            failures = failures + 1 if not part.exists() or part.stat().st_size == before else 1
            if failures >= ATTEMPTS or not _is_passing(error):
                raise _told(url, error) from error
            # Full jitter, as `store` pauses.
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.2 * 2**failures)))  # noqa: S311
        else:
            return part, resumed_bytes


def _asked(url: str) -> _Remote:
    """Size and version, from the headers of a request whose body is left unread: not every server answers HEAD."""
    try:
        with _opened(url, {}) as answer:
            size, version = answer.headers["Content-Length"], answer.headers["ETag"] or answer.headers["Last-Modified"]
            return _Remote(url=url, size_bytes=int(size) if size else None, version=version or "")
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise _told(url, error) from error


def _copy(remote: _Remote, part: Path, start: int, progress: Progress) -> None:
    if start and start == remote.size_bytes:
        return
    headers = {"Range": f"bytes={start}-", "If-Range": remote.version} if start else {}
    with _opened(remote.url, headers) as answer, store.named_errors(str(part), "written"):
        goes_on = answer.status == 206
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read(PART_BYTES):
                file.write(chunk)
                progress(file.tell(), remote.size_bytes or 0)
            done = file.tell()
    if remote.size_bytes is not None and done != remote.size_bytes:
        raise http.client.IncompleteRead(b"", remote.size_bytes - done)


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(url, headers={"User-Agent": "skyfan", **headers})  # noqa: S310 (checked: https)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
        yield answer


def _is_passing(error: Exception) -> bool:
    return not isinstance(error, urllib.error.HTTPError) or error.code in (408, 429) or error.code >= 500


def _told(url: str, error: Exception) -> LocationError | Transient:
    if isinstance(error, urllib.error.HTTPError):
        return LocationError(f"{url} cannot be copied: the server answers {error.code} {error.reason}.")
    if isinstance(error, urllib.error.URLError):
        return LocationError(f"{url} cannot be reached ({error.reason}); check the address and the network.")
    return Transient(f"{url}: the connection broke again and again; the same command goes on where it was.")


def _from_drive(url: str, path: Path, progress: Progress) -> tuple[Path, int]:
    """As `_from_server`, through the pages that Google Drive shows before it gives a large file; gdown resumes."""
    try:
        import gdown
        from gdown.exceptions import DownloadError
    except ImportError as error:
        raise LocationError("copying from Google Drive needs gdown: pip install 'skyfan[fetch]'.") from error
    # By address: gdown goes on with, or takes for whole, what it finds under the name that it is given.
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    part = path.with_name(f".{path.name[:200]}.{key}.drive.part")

    def advance(done: int, total: int | None) -> None:
        progress(done, total or 0)

    try:
        gdown.download(
            url, str(part), quiet=True, resume=True, progress=advance, timeout=_TIMEOUT_S, retries=ATTEMPTS - 1
        )
    except (DownloadError, OSError, ValueError) as error:
        raise LocationError(
            f"{url} cannot be copied ({first_line(error)[:200]}); share it with anyone who has the link."
        ) from error
    return part, 0
