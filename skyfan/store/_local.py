"""Local files, by the operating system's own calls: reads land straight in the caller's buffer."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from skyfan.errors import DeadlineExceeded, LocationError
from skyfan.store._types import AlreadyExists, ByteRange, ObjectInfo, PreconditionFailed, ReadStats

_TEMPORARY_SUFFIX = ".skyfan-tmp"
_LOCK_DEADLINE_S = 10.0


class LocalBackend:
    """Files below `/`; keys are absolute paths."""

    def head(self, key: str) -> ObjectInfo:
        with named_errors(key, "read"):
            return _info(key, Path(key).stat())

    def exists(self, key: str) -> bool:
        return Path(key).is_file()

    def read(self, key: str, stats: ReadStats) -> bytes:
        with _opened(key) as (handle, info):
            data = bytearray(info.size_bytes)
            _fill(key, handle, (0, info.size_bytes), memoryview(data), stats)
        return bytes(data)

    def read_tail(self, key: str, length_bytes: int, stats: ReadStats) -> tuple[ObjectInfo, bytes]:
        with _opened(key) as (handle, info):
            start = max(0, info.size_bytes - length_bytes)
            data = bytearray(info.size_bytes - start)
            _fill(key, handle, (start, info.size_bytes), memoryview(data), stats)
        return info, bytes(data)

    def read_into(
        self, key: str, ranges: Sequence[ByteRange], buffer: memoryview, etag: str | None, stats: ReadStats
    ) -> None:
        with _opened(key) as (handle, info):
            if etag is not None and info.etag != etag:
                raise PreconditionFailed(f"{key} has changed since it was first read; start the run again.")
            position = 0
            for start, stop in ranges:
                _fill(key, handle, (start, stop), buffer[position : position + stop - start], stats)
                position += stop - start

    def put(self, key: str, data: memoryview) -> ObjectInfo:
        return self.upload(key, iter([data]), len(data))

    def put_new(self, key: str, data: memoryview) -> ObjectInfo:
        with named_errors(key, "written"), _temporary(key, iter([data])) as temporary:
            try:
                os.link(temporary, key)  # unlike a rename, a link never replaces
            except FileExistsError as error:
                raise AlreadyExists(f"{key} exists already; nothing was written.") from error
        return self.head(key)

    def put_if_match(self, key: str, data: memoryview, etag: str) -> ObjectInfo:
        with named_errors(key, "written"), _temporary(key, iter([data])) as temporary, _locked_folder(key):
            if not self.exists(key) or self.head(key).etag != etag:
                raise PreconditionFailed(f"{key} was changed by someone else; nothing was written.")
            temporary.replace(key)
        return self.head(key)

    def upload(self, key: str, chunks: Iterator[memoryview], size_bytes: int) -> ObjectInfo:  # noqa: ARG002
        with named_errors(key, "written"), _temporary(key, chunks) as temporary:
            temporary.replace(key)
        return self.head(key)

    def list(self, key: str) -> Iterator[ObjectInfo]:
        with named_errors(key, "listed"):
            yield from _walk(key)

    def delete(self, key: str) -> None:
        with named_errors(key, "deleted"), contextlib.suppress(NotADirectoryError):  # below a file there is nothing
            Path(key).unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """A fresh hidden name in the folder of `target`, which `list` leaves out."""
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}{_TEMPORARY_SUFFIX}")


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    if not Path(key).is_file():
        raise IsADirectoryError
    return ObjectInfo(key, status.st_size, _etag(status))


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


@contextlib.contextmanager
def named_errors(key: str, done: str) -> Iterator[None]:
    """Operating system errors as one sentence with the file's name."""
    try:
        yield
    except FileNotFoundError as error:
        wrong = "cannot be written: its folder cannot be made" if done == "written" else "does not exist"
        raise LocationError(f"{key} {wrong}; check the path.") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise LocationError(f"{key} cannot be {done}: a part of its path is a file, not a folder.") from error
    except IsADirectoryError as error:
        raise LocationError(f"{key} is not a file; name a file in it.") from error
    except PermissionError as error:
        raise LocationError(f"{key} may not be {done} by this user; check its permissions.") from error
    except OSError as error:
        raise LocationError(f"{key} cannot be {done}: {error.strerror or error}.") from error


@contextlib.contextmanager
def _opened(key: str) -> Iterator[tuple[int, ObjectInfo]]:
    with named_errors(key, "read"):
        handle = os.open(key, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield handle, _info(key, os.fstat(handle))
        finally:
            os.close(handle)


def _fill(key: str, handle: int, span: ByteRange, target: memoryview, stats: ReadStats) -> None:
    start, stop = span
    while start < stop:
        begin = time.perf_counter()
        count = os.preadv(handle, [target], start)
        stats.add(count, time.perf_counter() - begin)
        if count == 0:
            raise LocationError(f"{key} ends at byte {start}, before byte {stop}; it is truncated.")
        start += count
        target = target[count:]


@contextlib.contextmanager
def _temporary(key: str, chunks: Iterator[memoryview]) -> Iterator[Path]:
    """A complete, synced file beside `key`, gone at the end unless it was renamed."""
    target = Path(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        with temporary.open("xb", buffering=0) as file:
            for chunk in chunks:
                rest = chunk
                while rest:
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        now_ns = time.time_ns()
        os.utime(temporary, ns=(now_ns, now_ns))  # kernel stamps are coarse: two puts could share an ETag
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked_folder(key: str) -> Iterator[None]:
    """One conditional writer at a time in the folder of `key`."""
    handle = os.open(Path(key).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, key)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, key: str) -> None:
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"{key}: another writer held its folder for {_LOCK_DEADLINE_S:g} s.") from error
            time.sleep(0.01)
        else:
            return


def _walk(folder: str) -> Iterator[ObjectInfo]:
    """Files below `folder` in the order that S3 lists keys; links to folders are not followed."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    entries.sort(key=lambda entry: entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif entry.is_file() and not entry.name.endswith(_TEMPORARY_SUFFIX):
            yield ObjectInfo(entry.path, entry.stat().st_size, _etag(entry.stat()))
