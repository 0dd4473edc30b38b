"""The store's blocking functions. All may be called from any thread."""

import os
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from skyfan.errors import LocationError
from skyfan.store import _clouds, _s3
from skyfan.store._local import LocalBackend
from skyfan.store._location import Location, StrPath, parse
from skyfan.store._objects import PART_BYTES, Clients, ObjectBackend
from skyfan.store._types import Backend, Buffer, ByteRange, NotListed, ObjectInfo, Progress, ReadStats

_LOCAL = LocalBackend()
_buckets: dict[tuple[str | None, ...], ObjectBackend] = {}
_buckets_lock = threading.Lock()


def head(uri: StrPath) -> ObjectInfo:
    """Size and ETag; `LocationError` where there is no such object."""
    location, backend = _object(uri)
    return backend.head(location.key)


def exists(uri: StrPath) -> bool:
    """Whether there is an object; an unreachable or forbidden place still raises."""
    location, backend = _object(uri)
    return backend.exists(location.key)


def read(uri: StrPath, *, stats: ReadStats | None = None) -> bytes:
    """The whole object."""
    location, backend = _object(uri)
    return backend.read(location.key, stats or ReadStats())


def read_range(
    uri: StrPath, start: int, stop: int, *, etag: str | None = None, stats: ReadStats | None = None
) -> bytes:
    """Bytes [start, stop), all of them, else `LocationError`."""
    data = bytearray(stop - start)
    read_into(uri, [(start, stop)], memoryview(data), etag=etag, stats=stats)
    return bytes(data)


def read_tail(uri: StrPath, length_bytes: int, *, stats: ReadStats | None = None) -> tuple[ObjectInfo, bytes]:
    """The last `length_bytes` bytes (fewer where the object is shorter) and what `head` would say, in one request."""
    location, backend = _object(uri)
    return backend.read_tail(location.key, length_bytes, stats or ReadStats())


def read_into(
    uri: StrPath,
    ranges: Sequence[ByteRange],
    buffer: memoryview,
    *,
    etag: str | None = None,
    stats: ReadStats | None = None,
) -> None:
    """Fill `buffer` with the byte ranges [start, stop), one after another.

    `buffer` is writable, contiguous and exactly as long as the ranges together. With `etag` the read fails
    with `PreconditionFailed` if the object is no longer the one that had it.

    Raises:
        ValueError: a range is none, or the buffer has another length.
        LocationError: the object cannot be read.
    """
    view = memoryview(buffer).cast("B")
    total_bytes = 0
    for start, stop in ranges:
        if not 0 <= start <= stop:
            raise ValueError(f"byte range [{start}, {stop}) is not a range")
        total_bytes += stop - start
    if total_bytes != len(view):
        raise ValueError(f"the ranges hold {total_bytes} bytes, the buffer {len(view)}")
    location, backend = _object(uri)
    backend.read_into(location.key, ranges, view, etag, stats or ReadStats())


def put(uri: StrPath, data: Buffer) -> ObjectInfo:
    """Write or replace the whole object at once: a reader sees the old one or the new one."""
    location, backend = _object(uri)
    return backend.put(location.key, memoryview(data).cast("B"))


def put_new(uri: StrPath, data: Buffer) -> ObjectInfo:
    """Write an object that must not exist yet; `AlreadyExists` for all but one of several writers.

    A write whose answer was lost on the way counts as this caller's if the object then holds these very bytes.
    """
    location, backend = _object(uri)
    return backend.put_new(location.key, memoryview(data).cast("B"))


def require_create_only(folder: StrPath) -> None:
    """Refuse a store in which a second `put_new` replaces what the first one wrote.

    Tried out once a store and process, with an object of its own below `folder` that is removed again.

    Raises:
        LocationError: the store ignores or refuses the condition, or may not be written.
    """
    location = parse(folder)
    _backend(location).require_create_only(location.key)


def server_time(uri: StrPath) -> datetime | None:
    """What the store's server takes for the time; None where there is no server or it does not answer."""
    location = parse(uri)
    return _s3.server_time(location) if location.scheme == "s3" else None


def copy_in(source: StrPath, uri: StrPath, progress: Progress | None = None) -> ObjectInfo:
    """Upload the local file `source` in parts, in little memory.

    `progress` is called with the bytes sent so far. Whatever it raises, and Ctrl-C, stops the upload and
    leaves nothing behind: the object appears when it is complete.
    """
    origin, (location, backend) = parse(source), _object(uri)
    if origin.scheme != "file":
        raise LocationError(f"{origin.uri} is not a local file; only local files can be uploaded.")
    size_bytes = _LOCAL.head(origin.key).size_bytes
    return backend.upload(location.key, _chunks(Path(origin.key), progress), size_bytes)


def list(  # noqa: A001 - read as store.list
    prefix: StrPath, not_listed: NotListed | None = None
) -> Iterator[ObjectInfo]:
    """Every object below `prefix`, recursively, in the order that the store gives; nothing below: nothing.

    Objects come as the store tells of them, a page or a folder at a time. Local entries that are no objects (folders,
    links to folders, links to nothing, FIFOs, sockets, devices) are given to `not_listed`.
    """
    location = parse(prefix)
    return _backend(location).list(location.key, not_listed)


def delete(uri: StrPath) -> None:
    """Remove the object; it is no error where there is none."""
    location, backend = _object(uri)
    backend.delete(location.key)


def _object(uri: StrPath) -> tuple[Location, Backend]:
    location = parse(uri)
    if not location.key:
        raise LocationError(f"{location.uri} names no object; write {location.uri.rstrip('/')}/…/name.")
    return location, _backend(location)


def _backend(location: Location) -> Backend:
    if location.scheme == "file":
        return _LOCAL
    if location.scheme == "memory":
        return _memory()
    cloud = _s3 if location.scheme == "s3" else _clouds
    identity = (location.scheme, location.bucket, *(os.environ.get(name) for name in cloud.ENVIRONMENT))
    with _buckets_lock:
        if identity not in _buckets:
            _buckets[identity] = cloud.open_bucket(location.with_key(""))
        return _buckets[identity]


@cache
def _memory() -> ObjectBackend:
    from obstore.store import MemoryStore

    store = MemoryStore()
    clients = Clients(eager=store, reading=store, writing=store, creating=lambda _: store)
    return ObjectBackend(Location("memory", "", ""), clients)


def _chunks(source: Path, progress: Progress | None) -> Iterator[memoryview]:
    sent_bytes = 0
    with source.open("rb", buffering=0) as file:
        while chunk := file.read(PART_BYTES):
            yield memoryview(chunk)
            sent_bytes += len(chunk)
            if progress is not None:
                progress(sent_bytes)
