"""Tables as text: CSV, and ECSV, which keeps types, units and descriptions (astropy's APE 6)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from astropy.table import Column as TableColumn
from astropy.table import MaskedColumn, Table

from skyfan.runs.exports.results import Column, Results, plain_values


def write_csv(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows; a column of vectors becomes one column a value, `name_0`, …."""
    columns, rows = results.columns, 0
    with path.open("wb") as file:
        for table in results.pieces():
            options = pyarrow.csv.WriteOptions(include_header=rows == 0)
            pyarrow.csv.write_csv(_flat(table, columns), file, options)
            rows += len(table)
    return rows


def _flat(table: pa.Table, columns: tuple[Column, ...]) -> pa.Table:
    found: dict[str, pa.Array] = {}
    for column in columns:
        values = table[column.name].combine_chunks()
        if not column.row_shape:
            found[column.name] = values
            continue
        flat = plain_values(values, column).reshape(len(table), -1)
        for number in range(flat.shape[1]):
            found[f"{column.name}_{number}"] = pa.array(flat[:, number], mask=np.asarray(values.is_null()))
    return pa.table(found)


def write_ecsv(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows."""
    columns, rows = results.columns, 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in results.pieces():
            text = io.StringIO()
            as_astropy(piece, columns).write(text, format="ascii.ecsv")
            lines = text.getvalue()
            # The header: lines that begin with #, and the one with the names.
            body = next(at for at, line in enumerate(lines.splitlines()) if not line.startswith("#")) + 1
            file.write(lines if rows == 0 else "".join(lines.splitlines(keepends=True)[body:]))
            rows += len(piece)
    return rows


def as_astropy(table: pa.Table, columns: tuple[Column, ...]) -> Table:
    """The rows as an astropy table: missing values masked, in vectors NaN."""
    found = {}
    for column in columns:
        values = table[column.name].combine_chunks()
        about: dict[str, Any] = {"unit": column.unit or None, "description": column.description or None}
        if column.ucd:
            about["meta"] = {"ucd": column.ucd}
        if column.row_shape:
            found[column.name] = TableColumn(plain_values(values, column), **about)
            continue
        text = pa.types.is_string(column.kind)
        blank = "" if text else False if pa.types.is_boolean(column.kind) else 0
        plain = values.fill_null(blank) if values.null_count else values
        numbers = np.asarray(plain.to_pylist(), "U") if text else plain.to_numpy(zero_copy_only=False)
        mask = np.asarray(values.is_null())
        found[column.name] = MaskedColumn(numbers, mask=mask, **about) if mask.any() else TableColumn(numbers, **about)
    return Table(found)
