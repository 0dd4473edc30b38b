"""Compares recomputed tables with the published ones, cell by cell."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from skyfan.studies.published.published_tables import Row

# Two decimals are printed; the mean of rounded numbers may differ in the last one.
TOLERANCE = 0.0101
_RELATIVE = 1e-12


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A cell whose recomputed value differs from the published one."""

    row: str
    column: str
    printed: str
    computed: Any


@dataclasses.dataclass(frozen=True, slots=True)
class TableCheck:
    """How much of a printed table was reproduced."""

    table: str
    printed_rows: int
    reproduced_rows: int
    without_run: tuple[str, ...]
    differences: tuple[Difference, ...]


def check_table(
    table: str, printed: Sequence[dict[str, str]], computed: Sequence[Row], keys: Sequence[str]
) -> TableCheck:
    """Compares every printed row whose run is present; `keys` identify a row, the last one is the run.

    A printed mean is compared only where all its repetitions are present.
    """
    by_key = {_key(row, keys): row for row in computed}
    repetitions: dict[tuple[str, ...], set[str]] = {}
    for row in printed:
        repetitions.setdefault(_key(row, keys)[:-1], set()).add(row["run"])
    reproduced, absent, differences = 0, [], []
    for row in printed:
        key = _key(row, keys)
        group = repetitions[key[:-1]]
        whole = all((*key[:-1], run) in by_key for run in group)
        if key not in by_key or (key[-1] == "mean" and not whole):
            absent.append(" ".join(key))
            continue
        found = _differences(" ".join(key), row, by_key[key], keys)
        differences += found
        reproduced += not found
    return TableCheck(table, len(printed), reproduced, tuple(absent), tuple(differences))


def _differences(name: str, printed: dict[str, str], computed: Row, keys: Sequence[str]) -> list[Difference]:
    found = []
    for column, text in printed.items():
        if column in keys:
            continue
        value = computed.get(column)
        if text == "" or not isinstance(value, (int, float)):
            agrees = text == "" and value is None
        else:
            agrees = abs(float(text) - value) <= max(TOLERANCE, _RELATIVE * abs(value))
        if not agrees:
            found.append(Difference(name, column, text, value))
    return found


def _key(row: Row | dict[str, str], keys: Sequence[str]) -> tuple[str, ...]:
    """The identifying cells as text in which `25`, `25.0` and `"25"` are equal; the run is last."""
    return tuple(_canonical(row[key]) for key in keys)


def _canonical(cell: Any) -> str:
    try:
        return f"{float(cell):g}"
    except (TypeError, ValueError):
        return str(cell)
