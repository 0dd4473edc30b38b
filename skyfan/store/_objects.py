"""Object stores (S3, memory) over obstore: parallel ranged GETs, create-only puts, multipart uploads."""

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import obstore

from skyfan.errors import LocationError, Transient
from skyfan.store._calls import Retries, wait_for
from skyfan.store._failures import AccessDenied, Conflict, RangeRefused, WrongRegion, translated
from skyfan.store._location import Location
from skyfan.store._types import AlreadyExists, ByteRange, NotFound, NotListed, ObjectInfo, ReadStats

if TYPE_CHECKING:
    from obstore import GetOptions, SuffixRange
    from obstore.store import AzureStore, GCSStore, HTTPStore, MemoryStore, S3Store

Client: TypeAlias = "S3Store | GCSStore | AzureStore | HTTPStore | MemoryStore"

PART_BYTES = 8 * 2**20
"""One S3 connection gives about 90 MB/s, so that large reads are cut into parts of this size."""
CONCURRENCY = 8

T = TypeVar("T")
_Part = tuple[int, int, int]
"""First byte, end byte, position in the buffer."""


@dataclass(frozen=True)
class Clients:
    """One bucket's clients, which differ in how long they wait and how often they try.

    `eager` serves until the endpoint has answered once and gives up in seconds, so that a wrong address is told at
    once; `reading` and `writing` then wait out throttling and broken connections. `creating` makes a client for
    conditional puts of that many bytes, which tries once only: what a lost answer means is decided here.
    """

    eager: "Client"
    reading: "Client"
    writing: "Client"
    creating: "Callable[[int], Client]"


class ObjectBackend:
    """One bucket, or the process's memory store. `relocate` finds clients for the region where the bucket is."""

    def __init__(
        self, root: Location, clients: Clients, relocate: "Callable[[], Clients | None] | None" = None
    ) -> None:
        self._root = root
        self._clients = clients
        self._relocate = relocate
        self._answered = root.scheme == "memory"
        self._creates_once = False

    def head(self, key: str) -> ObjectInfo:
        return self._info(self._ask(key, lambda: obstore.head(self._reader(), key)))

    def exists(self, key: str) -> bool:
        try:
            self.head(key)
        except NotFound:
            return False
        except AccessDenied:
            # S3 answers 403 for a missing key where the caller may list the bucket only under a condition, or not
            # at all; the listing decides, and raises where that is not allowed either.
            if any(info.uri == self._uri(key) for info in self._siblings(key)):
                raise
            return False
        return True

    def read(self, key: str, stats: ReadStats) -> bytes:
        # A range, so that the answer tells the whole size: half an object would else pass for one.
        info, data = self._read_end(key, (0, 2 * PART_BYTES), 2 * PART_BYTES, stats)
        if info.size_bytes == len(data):
            return data
        whole = bytearray(info.size_bytes)
        self.read_into(key, [(0, info.size_bytes)], memoryview(whole), info.etag, stats)
        return bytes(whole)

    def read_tail(self, key: str, length_bytes: int, stats: ReadStats) -> tuple[ObjectInfo, bytes]:
        return self._read_end(key, {"suffix": length_bytes}, length_bytes, stats)

    def _read_end(
        self, key: str, span: "ByteRange | SuffixRange", length_bytes: int, stats: ReadStats
    ) -> tuple[ObjectInfo, bytes]:
        """The first or last `length_bytes` bytes, or all that there are; nothing if a first range is not all."""
        begin = time.perf_counter()

        def get() -> tuple[ObjectInfo, bytes]:
            result = obstore.get(self._reader(), key, options={"range": span})
            info = self._info(result.meta)
            if isinstance(span, tuple) and info.size_bytes > length_bytes:
                return info, b""  # left unread, which closes the connection; parts come in parallel instead
            data = bytes(result.bytes())
            self._check_length(key, len(data), min(length_bytes, info.size_bytes))
            return info, data

        try:
            info, data = self._ask(key, get)
        except RangeRefused:
            # An empty object has no first or last byte: S3 answers "invalid range", its emulators the whole object.
            info, data = self.head(key), b""
            if info.size_bytes:
                raise
        if data or not info.size_bytes:
            stats.add(len(data), time.perf_counter() - begin)
        return info, data

    def _check_length(self, key: str, got_bytes: int, expected_bytes: int) -> None:
        if got_bytes != expected_bytes:
            raise Transient(f"{self._uri(key)}: the store sent {got_bytes} bytes of {expected_bytes}.")

    def read_into(
        self, key: str, ranges: Sequence[ByteRange], buffer: memoryview, etag: str | None, stats: ReadStats
    ) -> None:
        parts = list(_parts(ranges))
        if len(parts) <= 1:
            for part in parts:
                self._read_part(key, part, buffer, etag, stats)
            return
        pool = ThreadPoolExecutor(min(CONCURRENCY, len(parts)), "skyfan-read")
        try:
            futures = [pool.submit(self._read_part, key, part, buffer, etag, stats) for part in parts]
            for future in futures:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read_part(self, key: str, part: _Part, buffer: memoryview, etag: str | None, stats: ReadStats) -> None:
        start, stop, position = part
        options: GetOptions = {"range": (start, stop)}
        if etag:
            options["if_match"] = etag

        def get() -> bytes:
            result = obstore.get(self._reader(), key, options=options)
            data = bytes(result.bytes())
            if stop <= result.meta["size"]:
                self._check_length(key, len(data), stop - start)
            return data

        begin = time.perf_counter()
        data = self._ask(key, get)
        stats.add(len(data), time.perf_counter() - begin)
        if len(data) != stop - start:
            raise LocationError(
                f"{self._uri(key)} ends at byte {start + len(data)}, before byte {stop}; it is truncated."
            )
        buffer[position : position + len(data)] = data

    def put(self, key: str, data: memoryview) -> ObjectInfo:
        self._wait_for_answer(key)
        result = self._ask(key, lambda: obstore.put(self._clients.writing, key, data))
        return ObjectInfo(self._uri(key), len(data), result["e_tag"] or "")

    def put_new(self, key: str, data: memoryview) -> ObjectInfo:
        self._wait_for_answer(key)
        client, retries, maybe_written = self._clients.creating(len(data)), Retries(), False
        while True:
            try:
                with translated(self._uri(key), self._answered, conditional=True):
                    result = wait_for(lambda: obstore.put(client, key, data, mode="create"))
                return ObjectInfo(self._uri(key), len(data), result["e_tag"] or "")
            except (AlreadyExists, Conflict) as error:
                failure: Exception = error
            except Transient as error:
                maybe_written, failure = True, error
            # Some servers answer 409 or 412 where there is nothing, and an answer that was lost may have been a yes.
            if self.exists(key):
                if maybe_written and self.read(key, ReadStats()) == data:
                    return self.head(key)
                raise AlreadyExists(f"{self._uri(key)} exists already; nothing was written.") from failure
            if not retries.pause():
                raise Transient(
                    f"{self._uri(key)} could not be written after {retries.pauses + 1} attempts: {failure}"
                ) from failure

    def require_create_only(self, key: str) -> None:
        if self._creates_once:
            return
        probe = "/".join(filter(None, (key, f"probe-{secrets.token_hex(8)}.json")))
        self.put_new(probe, memoryview(b"1"))
        try:
            self.put_new(probe, memoryview(b"2"))
        except AlreadyExists:
            self._creates_once = True
        finally:
            self.delete(probe)
        if not self._creates_once:
            raise LocationError(
                f"{self._uri(key)}: this store ignores conditions of writes (If-None-Match), so that two runs could "
                "overwrite each other; choose an --output on S3, another server or a local folder."
            )

    def upload(self, key: str, chunks: Iterator[memoryview], size_bytes: int) -> ObjectInfo:
        if size_bytes <= PART_BYTES:
            return self.put(key, memoryview(b"".join(chunks)))
        self._wait_for_answer(key)
        # Blocking: the chunks are read, and progress is told, in the caller's thread.
        with translated(self._uri(key), self._answered):
            result = obstore.put(
                self._clients.writing, key, chunks, chunk_size=_upload_part_bytes(size_bytes), max_concurrency=4
            )
        return ObjectInfo(self._uri(key), size_bytes, result["e_tag"] or "")

    def list(self, key: str, not_listed: NotListed | None) -> Iterator[ObjectInfo]:  # noqa: ARG002
        # Folders made in a web console are empty objects named like the folder.
        return (info for info in self._listed(key) if info.uri != self._uri(key))

    def _listed(self, folder: str, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects below `folder` in the order of their keys, those before and at `after` left out."""
        stream: Any = None

        def page() -> Any:
            nonlocal stream
            if stream is None:
                stream = obstore.list(self._reader(), folder or None, offset=after, chunk_size=1000)
            try:
                return next(stream, None)
            except Exception:
                stream = None  # it would end here, as if there were no more; the next try goes on after the last page
                raise

        while chunk := self._ask(folder, page):
            yield from (self._info(meta) for meta in chunk)
            after = chunk[-1]["path"]

    def _siblings(self, key: str) -> Iterator[ObjectInfo]:
        """What the listing holds from just before `key` on; no more than can be `key` itself."""
        before = f"{key[:-1]}{chr(ord(key[-1]) - 1)}"
        return itertools.takewhile(
            lambda info: info.uri <= self._uri(key), self._listed(key.rpartition("/")[0], before)
        )

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            self._ask(key, lambda: obstore.delete(self._clients.writing, key))

    def _ask(self, key: str, call: Callable[[], T]) -> T:
        """What `call` returns, tried again while the store is busy, and in the region where the bucket is."""
        retries = Retries()
        while True:
            try:
                with translated(self._uri(key), self._answered):
                    answer = wait_for(call)
            except Transient:
                if not retries.pause():
                    raise
            except WrongRegion:
                if not self._moved():
                    raise
            except NotFound:
                self._answered = True
                raise
            else:
                self._answered = True
                return answer

    def _moved(self) -> bool:
        """Whether other clients are used from now on, those of the region where the bucket is."""
        relocate, self._relocate = self._relocate, None
        found = relocate() if relocate else None
        if found:
            self._clients = found
        return found is not None

    def _wait_for_answer(self, key: str) -> None:
        """A write must not hang on a wrong address, nor be cut short on a slow link: ask something small first."""
        if not self._answered:
            try:
                self.head(key)
            except (NotFound, AccessDenied):
                self._answered = True

    def _reader(self) -> "Client":
        return self._clients.reading if self._answered else self._clients.eager

    def _uri(self, key: str) -> str:
        return self._root.with_key(key).uri

    def _info(self, meta: Any) -> ObjectInfo:
        etag = meta["e_tag"] or ""
        # A weak one (RFC 9110, 8.8.1) never fulfils If-Match: such a server cannot tell of a change.
        return ObjectInfo(self._uri(meta["path"]), meta["size"], "" if etag.startswith("W/") else etag)


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
