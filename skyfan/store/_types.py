"""What the store's functions take, give and raise."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from skyfan.errors import LocationError

Buffer = bytes | bytearray | memoryview
ByteRange = tuple[int, int]
Progress = Callable[[int], None]
"""Called with the number of bytes sent so far; what it raises stops the upload."""
NotListed = Callable[[str, str], None]
"""Called with an entry of a local folder that is no object: its path, and what it is ("a FIFO")."""

DANGLING_LINK = "a link to a file that is not there"
LINKED_FOLDER = "a link to a folder"
FOLDER = "a folder"


class NotFound(LocationError):
    """There is no such object."""

    cure = "Check the spelling; list the folder to see what is there."


class AlreadyExists(LocationError):
    """A create-only put found an object in its place; nothing was written."""

    cure = "Choose another name, or remove the object if it is not needed."


class PreconditionFailed(LocationError):
    """The object is not, or no longer, the one with the given ETag; nothing was read."""

    cure = "Run again; if it repeats, another process writes to the same place."


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: `uri` in canonical spelling, its size, and an ETag that changes when the content does."""

    uri: str
    size_bytes: int
    etag: str


@dataclass(slots=True)
class ReadStats:
    """Counts data requests (GETs on S3, `preadv` calls on files) from any number of threads.

    `total_s` is the sum over requests, which overlap, so it can exceed the wall time.
    """

    requests: int = 0
    bytes_read: int = 0
    total_s: float = 0.0
    min_s: float = 0.0
    max_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def mean_s(self) -> float:
        """Mean time of a request; 0 where there was none."""
        return self.total_s / self.requests if self.requests else 0.0

    def add(self, size_bytes: int, duration_s: float) -> None:
        """Count one request."""
        with self._lock:
            self.min_s = min(self.min_s, duration_s) if self.requests else duration_s
            self.max_s = max(self.max_s, duration_s)
            self.requests += 1
            self.bytes_read += size_bytes
            self.total_s += duration_s


class Backend(Protocol):
    """One kind of store. Keys are `Location.key`; all methods may be called from any thread."""

    def head(self, key: str) -> ObjectInfo: ...
    def exists(self, key: str) -> bool: ...
    def read(self, key: str, stats: ReadStats) -> bytes: ...
    def read_tail(self, key: str, length_bytes: int, stats: ReadStats) -> tuple[ObjectInfo, bytes]: ...
    def read_into(
        self, key: str, ranges: Sequence[ByteRange], buffer: memoryview, etag: str | None, stats: ReadStats
    ) -> None: ...
    def put(self, key: str, data: memoryview) -> ObjectInfo: ...
    def put_new(self, key: str, data: memoryview) -> ObjectInfo: ...
    def upload(self, key: str, chunks: Iterator[memoryview], size_bytes: int) -> ObjectInfo: ...
    def list(self, key: str, not_listed: NotListed | None) -> Iterator[ObjectInfo]: ...
    def delete(self, key: str) -> None: ...
    def require_create_only(self, key: str) -> None: ...
