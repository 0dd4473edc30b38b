"""The footer of a Parquet file, as far as rows and row groups go.

It is read here because pyarrow's own accessors end the process where a footer contradicts itself.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (fields by number) and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_WHOLE = (4, 5, 6)
# Of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS, _GROUP_ROWS = 1, 3
_FILE_PATH, _META_DATA = 1, 3
_PATH, _NUM_VALUES = 3, 5


@dataclass(frozen=True)
class Chunk:
    """One column of a row group: its path in the schema, and how many values it has, nulls included."""

    path: str
    values: int
    file_path: str


@dataclass(frozen=True)
class RowGroup:
    """Rows that are decoded together."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(footer: bytes) -> tuple[RowGroup, ...]:
    """The row groups that a footer tells of.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = _Reader(footer).struct()
        groups = tuple(
            RowGroup(_size(group[_GROUP_ROWS]), tuple(map(_chunk, group[_COLUMNS]))) for group in found[_ROW_GROUPS]
        )
        rows = _size(found[_NUM_ROWS])
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its footer is no Parquet footer") from error
    if sum(group.rows for group in groups) != rows:
        raise ValueError("its row groups do not have the rows that the file has")
    return groups


def _chunk(chunk: dict[int, Any]) -> Chunk:
    meta = chunk[_META_DATA]
    return Chunk(
        ".".join(part.decode("utf-8", "replace") for part in meta[_PATH]),
        _size(meta[_NUM_VALUES]),
        chunk.get(_FILE_PATH, b"").decode("utf-8", "replace"),
    )


def _size(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**62:
        raise ValueError("its footer has an impossible size")
    return value


class _Reader:
    """Values of Thrift's compact protocol, structs as field number → value."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._whole()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("its footer is nested too deeply")
        if kind in _WHOLE:
            return self._whole()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.struct(depth)
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15, depth + 1) for _ in range(self._fitting(count))]
        if kind == _MAP:
            count = self._fitting(self._unsigned())
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for _ in range(count)]
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError("its footer has values of an unknown kind")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += self._fitting(count)
        return self._data[self._at - count : self._at]

    def _fitting(self, count: int) -> int:
        """What follows takes a byte each at least."""
        if count > len(self._data) - self._at:
            raise ValueError("its footer ends early")
        return count

    def _unsigned(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("its footer has a number without an end")

    def _whole(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
