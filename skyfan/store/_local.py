"""Local files, by the operating system's own calls: reads land straight in the caller's buffer."""

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from skyfan.errors import LocationError
from skyfan.store._types import (
    DANGLING_LINK,
    FOLDER,
    LINKED_FOLDER,
    AlreadyExists,
    ByteRange,
    NotFound,
    NotListed,
    ObjectInfo,
    PreconditionFailed,
    ReadStats,
)

_TEMPORARY_SUFFIX = ".skyfan-tmp"
# What link(2) answers on file systems without hard links: FAT, many network and FUSE ones.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
# What fsync(2) and utimensat(2) answer where the file system has neither.
_NOT_OFFERED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h
_KINDS = {
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class LocalBackend:
    """Files below `/`; keys are absolute paths."""

    def head(self, key: str) -> ObjectInfo:
        with named_errors(key, "read"):
            return _info(key, os.stat(key))  # noqa: PTH116 - no check of the path's spelling, which is done

    def exists(self, key: str) -> bool:
        with named_errors(key, "read"):
            try:
                return stat.S_ISREG(os.stat(key).st_mode)  # noqa: PTH116
            except (FileNotFoundError, NotADirectoryError):
                return False

    def read(self, key: str, stats: ReadStats) -> bytes:
        with _opened(key) as (handle, info):
            begin = time.perf_counter()
            data = os.pread(handle, info.size_bytes, 0)  # in general all of it, without a buffer to copy it from
            stats.add(len(data), time.perf_counter() - begin)
            if len(data) < info.size_bytes:
                rest = bytearray(info.size_bytes - len(data))
                _fill(key, handle, (len(data), info.size_bytes), memoryview(rest), stats)
                data += rest
        return data

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
            info = _info(key, temporary.stat())
            try:
                _give_name(temporary, key)
            except FileExistsError as error:
                raise AlreadyExists(f"{key} exists already; nothing was written.") from error
        return info

    def require_create_only(self, key: str) -> None:
        """Every local file system keeps this, or `put_new` refuses it."""

    def upload(self, key: str, chunks: Iterator[memoryview], size_bytes: int) -> ObjectInfo:  # noqa: ARG002
        with named_errors(key, "written"), _temporary(key, chunks) as temporary:
            # Before it has its name: by that others may replace or remove it at once.
            info = _info(key, temporary.stat())
            temporary.replace(key)
        return info

    def list(self, key: str, not_listed: NotListed | None) -> Iterator[ObjectInfo]:
        with named_errors(key, "listed"):
            yield from _walk(key, not_listed or _leave_out)

    def delete(self, key: str) -> None:
        with named_errors(key, "deleted"), contextlib.suppress(NotADirectoryError):  # below a file there is nothing
            Path(key).unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """A fresh hidden name in the folder of `target`, which `list` leaves out."""
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}{_TEMPORARY_SUFFIX}")


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    _require_regular(key, status)
    return ObjectInfo(key, status.st_size, _etag(status))


def _require_regular(key: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise LocationError(f"{key} is not a file but {kind}; name a regular file.")


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


@contextlib.contextmanager
def named_errors(key: str, done: str) -> Iterator[None]:
    """Operating system errors as one sentence with the file's name."""
    try:
        yield
    except FileNotFoundError as error:
        wrong = "cannot be written: its folder cannot be made" if done == "written" else "does not exist"
        raise (LocationError if done == "written" else NotFound)(f"{key} {wrong}; check the path.") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise LocationError(f"{key} cannot be {done}: a part of its path is a file, not a folder.") from error
    except IsADirectoryError as error:
        raise LocationError(f"{key} is not a file; name a file in it.") from error
    except PermissionError as error:
        raise LocationError(f"{key} may not be {done} by this user; check its permissions.") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "; free some space there or choose another folder" if full else ""
        raise LocationError(f"{key} cannot be {done}: {error.strerror or error}{cure}.") from error


@contextlib.contextmanager
def _opened(key: str) -> Iterator[tuple[int, ObjectInfo]]:
    with named_errors(key, "read"):
        _require_regular(key, os.stat(key))  # noqa: PTH116 - before it is opened, which tells a device something
        # Without O_NONBLOCK a FIFO that took the file's place meanwhile would never open.
        handle = os.open(key, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
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
            with _offered():
                os.fsync(file.fileno())
        now_ns = time.time_ns()
        with _offered():
            os.utime(temporary, ns=(now_ns, now_ns))  # kernel stamps are coarse: two puts could share an ETag
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _offered() -> Iterator[None]:
    """For calls that make a file more durable or its ETag sharper, and that some file systems do not have."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def _give_name(temporary: Path, key: str) -> None:
    """Makes the complete file `temporary` be `key`; `FileExistsError` if that is there, or comes in this moment."""
    try:
        os.link(temporary, key)  # unlike a rename, a link never replaces
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_new(temporary, key)


def _rename_new(temporary: Path, key: str) -> None:
    """Linux's rename that never replaces (renameat2(2)): every kernel file system has it, some FUSE ones do."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and not rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(key), _RENAME_NOREPLACE):
        return
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number not in _NO_LINKS:
        raise OSError(number, os.strerror(number), key)
    raise LocationError(
        f"{key} cannot be written: its file system has neither hard links nor a rename that never replaces, and two "
        "writers could overwrite each other; choose an --output on another file system or on S3."
    )


def _walk(folder: str, not_listed: NotListed) -> Iterator[ObjectInfo]:
    """Files below `folder` in the order that S3 lists keys; links to folders are not followed."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    entries.sort(key=lambda entry: entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            not_listed(entry.path, FOLDER)
            yield from _walk(entry.path, not_listed)
        elif not entry.name.endswith(_TEMPORARY_SUFFIX):
            yield from _listed(entry, not_listed)


def _leave_out(path: str, kind: str) -> None:
    """What `list` does with entries that are no objects, where the caller does not ask for them."""


def _listed(entry: "os.DirEntry[str]", not_listed: NotListed) -> Iterator[ObjectInfo]:
    """The entry, if it is a file or a link to one."""
    with named_errors(entry.path, "listed"):
        try:
            status = entry.stat()
        except FileNotFoundError:
            if entry.is_symlink():  # else it was removed after the folder was read
                not_listed(entry.path, DANGLING_LINK)
            return
    if stat.S_ISREG(status.st_mode):
        yield ObjectInfo(entry.path, status.st_size, _etag(status))
    elif stat.S_ISDIR(status.st_mode):
        not_listed(entry.path, LINKED_FOLDER)
    else:
        not_listed(entry.path, _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file"))
