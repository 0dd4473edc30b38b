"""An object as a file that can be read from anywhere: what libraries that know only files are given."""

import io
from typing import Any

from skyfan.store._api import read_into
from skyfan.store._types import ObjectInfo, ReadStats


class RangeFile(io.RawIOBase):
    """Reads byte ranges of one version of an object, that of `info`; of it only `tail`, its last bytes, is held.

    Raises:
        LocationError: there is no such object, or it changed meanwhile (`PreconditionFailed`).
    """

    def __init__(self, info: ObjectInfo, stats: ReadStats | None = None, tail: bytes = b"") -> None:
        self._info, self._stats, self._tail, self._position = info, stats, memoryview(tail), 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def size(self) -> int:
        """Bytes of the object (pyarrow asks for it)."""
        return self._info.size_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets where the next read begins."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the object goes."""
        view, start = memoryview(buffer).cast("B"), self._position
        stop = max(start, min(start + len(view), self._info.size_bytes))
        held_from = self._info.size_bytes - len(self._tail)
        if held_from <= start < stop:
            view[: stop - start] = self._tail[start - held_from : stop - held_from]
        elif stop > start:
            read_into(self._info.uri, [(start, stop)], view[: stop - start], etag=self._info.etag, stats=self._stats)
        self._position = stop
        return stop - start
