"""An object as a file that can be read from anywhere: what libraries that know only files are given."""

import io

from skyfan.store._api import head, read_range
from skyfan.store._location import StrPath


class RangeFile(io.RawIOBase):
    """Reads byte ranges of one version of an object; nothing is held in memory.

    Raises:
        LocationError: there is no such object, or it changed meanwhile (`PreconditionFailed`).
    """

    def __init__(self, uri: StrPath) -> None:
        self._uri, self._info, self._position = uri, head(uri), 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets where the next read begins."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer as far as the object goes."""
        stop = min(self._position + len(buffer), self._info.size_bytes)
        found = read_range(self._uri, self._position, stop, etag=self._info.etag) if stop > self._position else b""
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)
