"""Which row of a catalogue each sample has: the row of its number, or the first one with its ID."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.dtypes import STRING, numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.rows import read_rows
from skyfan.formats.tables import Table
from skyfan.layout import FileLayout, TensorSpec
from skyfan.stages.id_keys import id_keys

# Of a join by ID the samples' IDs and rows are held, up to 48 bytes a sample.
MAX_JOINED_BY_ID = 20_000_000
MAX_NAMED = 10
_ID_ROWS = 1_000_000

Selected = slice | NDArray[np.int64]


class ByRow:
    """Sample i has row i."""

    duplicates = unused_rows = 0

    def __init__(self, table: Table, files: Sequence[FileLayout]) -> None:
        samples = sum(file.samples for file in files)
        if table.rows != samples:
            raise DatasetError(
                f"{table.uri} has {table.rows:,} rows and the data {samples:,} samples: a catalogue is joined by row "
                "number; where rows are missing or in another order, name the ID that both have with --id."
            )

    def of(self, first: int, count: int) -> tuple[Selected, Selected]:
        """Samples that rows [first, first + count) are for, and their rows, counted from `first`."""
        return slice(first, first + count), slice(None)

    def unmatched(self) -> NDArray[np.int64]:
        """None: every sample has a row."""
        return np.empty(0, np.int64)


@dataclass
class ById:
    """Sample i has the first row with its ID, where there is one."""

    duplicates: int
    unused_rows: int
    _sample_rows: NDArray[np.int64]
    _order: NDArray[np.int64]
    """Samples by row."""
    _sorted_rows: NDArray[np.int64]

    @classmethod
    def matched(cls, table: Table, key: str, files: Sequence[FileLayout]) -> "ById":
        """Reads the IDs of both.

        Raises:
            DatasetError: their IDs are of different kinds, or there are too many samples.
        """
        samples = sum(file.samples for file in files)
        if samples > MAX_JOINED_BY_ID:
            raise DatasetError(
                f"a join by ID is of at most {MAX_JOINED_BY_ID:,} samples, and the data has {samples:,}: sort "
                f"{table.uri} as the data is and leave --id out, or split the data."
            )
        _check_kinds(table, key, files[0])
        keys = np.concatenate([id_keys(ids) for ids in _ids(files, key)])
        known, inverse = np.unique(keys, return_inverse=True)
        rows, duplicates, unused, first = np.full(len(known), -1, np.int64), 0, 0, 0
        for piece in table.pieces([key]):
            values, valid = piece[key]
            numbers = np.arange(first, first + len(values))
            if valid is not None:
                values, numbers = values[valid], numbers[valid]
            at = np.searchsorted(known, found := id_keys(values)).clip(max=len(known) - 1)
            hit = known[at] == found
            places, earliest = np.unique(at[hit], return_index=True)
            fresh = rows[places] < 0
            rows[places[fresh]] = numbers[hit][earliest[fresh]]
            duplicates += int(hit.sum() - fresh.sum())
            unused += len(piece[key][0]) - int(hit.sum())
            first += len(piece[key][0])
        sample_rows = rows[inverse]
        order = np.argsort(sample_rows, kind="stable")
        return cls(duplicates, unused, sample_rows, order, sample_rows[order])

    def of(self, first: int, count: int) -> tuple[Selected, Selected]:
        """See `ByRow`."""
        lo, hi = np.searchsorted(self._sorted_rows, [first, first + count])
        return self._order[lo:hi], self._sorted_rows[lo:hi] - first

    def unmatched(self) -> NDArray[np.int64]:
        """Samples without a row, in order."""
        return np.flatnonzero(self._sample_rows < 0)


def first_ids(files: Sequence[FileLayout], key: str, samples: NDArray[np.int64]) -> tuple[str, ...]:
    """The IDs of the first few of these samples, as text."""
    starts = np.cumsum([0, *(file.samples for file in files)])
    found = []
    for sample in samples[:MAX_NAMED].tolist():
        number = int(np.searchsorted(starts, sample, side="right")) - 1
        row = sample - int(starts[number])
        value = read_rows(files[number], id_spec(files[number], key).name, row, row + 1).reshape(-1)[0]
        found.append(str(value))
    return tuple(found)


def id_spec(file: FileLayout, key: str) -> TensorSpec:
    """The data's own column of this name in the file."""
    return next(spec for spec in file.tensors if not spec.uri and (spec.source or spec.name) == key)


def _ids(files: Sequence[FileLayout], key: str) -> Iterator[NDArray[Any]]:
    for file in files:
        name = id_spec(file, key).name
        for start in range(0, file.samples, _ID_ROWS):
            rows = read_rows(file, name, start, min(start + _ID_ROWS, file.samples))
            yield rows.reshape(len(rows), -1)[:, 0]


def _check_kinds(table: Table, key: str, file: FileLayout) -> None:
    kinds = {_kind(id_spec(file, key).dtype): file.uri, _kind(table.columns[key].dtype): table.uri}
    if len(kinds) > 1:
        listed = " and ".join(f"{kind} in {uri}" for kind, uri in kinds.items())
        raise DatasetError(f"the IDs {key} are {listed}; write them as one type.")


def _kind(dtype: str) -> str:
    if dtype == STRING:
        return "text"
    return {"f": "floats", "i": "whole numbers", "u": "whole numbers"}.get(numpy_dtype(dtype).kind, dtype)
