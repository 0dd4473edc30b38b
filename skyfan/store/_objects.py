"""Object stores (S3, memory) over obstore: parallel ranged GETs, conditional puts, multipart uploads."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from skyfan.errors import LocationError
from skyfan.store._failures import translated
from skyfan.store._location import Location
from skyfan.store._types import AlreadyExists, ByteRange, ObjectInfo, PreconditionFailed, ReadStats

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import MemoryStore, S3Store

PART_BYTES = 8 * 2**20
"""One S3 connection gives about 90 MB/s, so that large reads are cut into parts of this size."""
CONCURRENCY = 8

_Part = tuple[int, int, int]
"""First byte, end byte, position in the buffer."""


class ObjectBackend:
    """One bucket, or the process's memory store.

    `eager` serves until the endpoint has answered once and gives up in seconds, so that a wrong address is
    told at once; `patient` then waits out throttling and broken connections.
    """

    def __init__(self, root: Location, eager: "S3Store | MemoryStore", patient: "S3Store | MemoryStore") -> None:
        self._root = root
        self._eager = eager
        self._patient = patient
        self._answered = eager is patient

    def head(self, key: str) -> ObjectInfo:
        with self._translated(key):
            meta = obstore.head(self._client(), key)
        self._answered = True
        return self._info(meta)

    def exists(self, key: str) -> bool:
        with self._translated(key):
            try:
                obstore.head(self._client(), key)
            except FileNotFoundError:
                self._answered = True
                return False
        self._answered = True
        return True

    def read(self, key: str, stats: ReadStats) -> bytes:
        begin = time.perf_counter()
        with self._translated(key):
            result = obstore.get(self._client(), key)
            self._answered = True
            info = self._info(result.meta)
            if info.size_bytes <= 2 * PART_BYTES:
                data = bytes(result.bytes())
                stats.add(len(data), time.perf_counter() - begin)
                return data
        del result  # unread: closes the connection; the parts come in parallel instead
        whole = bytearray(info.size_bytes)
        self.read_into(key, [(0, info.size_bytes)], memoryview(whole), info.etag, stats)
        return bytes(whole)

    def read_tail(self, key: str, length_bytes: int, stats: ReadStats) -> tuple[ObjectInfo, bytes]:
        begin = time.perf_counter()
        with self._translated(key):
            try:
                result = obstore.get(self._client(), key, options={"range": {"suffix": length_bytes}})
                data = bytes(result.bytes())
            except BaseError as error:
                # an empty object has no last byte: S3 answers "invalid range", its emulators the whole object
                if not any(answer in str(error) for answer in ("InvalidRange", "NotPartial", "OutOfRange")):
                    raise
                info = self.head(key)
                if info.size_bytes:
                    raise
                return info, b""
        self._answered = True
        stats.add(len(data), time.perf_counter() - begin)
        return self._info(result.meta), data

    def read_into(
        self, key: str, ranges: Sequence[ByteRange], buffer: memoryview, etag: str | None, stats: ReadStats
    ) -> None:
        parts = list(_parts(ranges))
        if len(parts) <= 1:
            for part in parts:
                self._read_part(key, part, buffer, etag, stats)
            return
        with ThreadPoolExecutor(min(CONCURRENCY, len(parts)), "skyfan-read") as pool:
            futures = [pool.submit(self._read_part, key, part, buffer, etag, stats) for part in parts]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read_part(self, key: str, part: _Part, buffer: memoryview, etag: str | None, stats: ReadStats) -> None:
        start, stop, position = part
        begin = time.perf_counter()
        with self._translated(key):
            try:
                options: GetOptions = {"range": (start, stop)}
                if etag is not None:
                    options["if_match"] = etag
                data = memoryview(obstore.get(self._client(), key, options=options).bytes())
            except PreconditionError as error:
                raise PreconditionFailed(
                    f"{self._uri(key)} has changed since it was first read; start the run again."
                ) from error
        self._answered = True
        stats.add(len(data), time.perf_counter() - begin)
        if len(data) != stop - start:
            raise LocationError(
                f"{self._uri(key)} ends at byte {start + len(data)}, before byte {stop}; it is truncated."
            )
        buffer[position : position + len(data)] = data

    def put(self, key: str, data: memoryview) -> ObjectInfo:
        return self._put(key, data, len(data), mode="overwrite")

    def put_new(self, key: str, data: memoryview) -> ObjectInfo:
        return self._put(key, data, len(data), mode="create")

    def put_if_match(self, key: str, data: memoryview, etag: str) -> ObjectInfo:
        return self._put(key, data, len(data), mode={"e_tag": etag})

    def upload(self, key: str, chunks: Iterator[memoryview], size_bytes: int) -> ObjectInfo:
        if size_bytes <= PART_BYTES:
            return self.put(key, memoryview(b"".join(chunks)))
        return self._put(key, chunks, size_bytes, chunk_size=_upload_part_bytes(size_bytes), max_concurrency=4)

    def _put(self, key: str, data: Any, size_bytes: int, **options: Any) -> ObjectInfo:
        uri = self._uri(key)
        self._wait_for_answer(key)
        with self._translated(key):
            try:
                result = obstore.put(self._client(), key, data, **options)
            except AlreadyExistsError as error:
                raise AlreadyExists(f"{uri} exists already; nothing was written.") from error
            except PreconditionError as error:
                raise PreconditionFailed(f"{uri} was changed by someone else; nothing was written.") from error
        self._answered = True
        return ObjectInfo(uri, size_bytes, result["e_tag"] or "")

    def list(self, key: str) -> Iterator[ObjectInfo]:
        with self._translated(key):
            for chunk in obstore.list(self._client(), key or None, chunk_size=1000):
                self._answered = True
                # folders made in a web console are empty objects named like the folder
                yield from (self._info(meta) for meta in chunk if meta["path"] != key)

    def delete(self, key: str) -> None:
        with self._translated(key):
            obstore.delete(self._client(), key)
        self._answered = True

    def _wait_for_answer(self, key: str) -> None:
        """A write must not hang on a wrong address, nor be cut short on a slow link: ask something small first."""
        if self._answered:
            return
        with (
            self._translated(key),
            contextlib.suppress(FileNotFoundError, PermissionDeniedError, UnauthenticatedError),
        ):
            obstore.head(self._eager, key)
        self._answered = True

    def _client(self) -> "S3Store | MemoryStore":
        return self._patient if self._answered else self._eager

    def _translated(self, key: str) -> contextlib.AbstractContextManager[None]:
        return translated(self._uri(key), self._answered)

    def _uri(self, key: str) -> str:
        return self._root.with_key(key).uri

    def _info(self, meta: Any) -> ObjectInfo:
        return ObjectInfo(self._uri(meta["path"]), meta["size"], meta["e_tag"] or "")


def _parts(ranges: Sequence[ByteRange]) -> Iterator[_Part]:
    """Ranges in equal parts of about `PART_BYTES`, half of it more at most; ranges that touch become one.

    Equal, because a small rest costs a request as a whole part does and all wait for the largest.
    """
    position = 0
    for start, stop in _merged(ranges):
        count = max(1, (stop - start + PART_BYTES // 2) // PART_BYTES)
        edges = [start + (stop - start) * part // count for part in range(count + 1)]
        for begin, end in itertools.pairwise(edges):
            yield begin, end, position
            position += end - begin


def _merged(ranges: Sequence[ByteRange]) -> Iterator[ByteRange]:
    current: ByteRange | None = None
    for start, stop in ranges:
        if start == stop:
            continue
        if current is not None and current[1] == start:
            current = (current[0], stop)
            continue
        if current is not None:
            yield current
        current = (start, stop)
    if current is not None:
        yield current


def _upload_part_bytes(size_bytes: int) -> int:
    """S3 takes at most 10,000 parts of at least 5 MiB."""
    return max(PART_BYTES, -(-size_bytes // 9_000))
