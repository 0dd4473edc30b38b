"""A FITS binary table: the header by astropy, the rows appended as they are read.

The format: FITS Standard 4.0, section 7.3 (https://fits.gsfc.nasa.gov/fits_standard.html).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from skyfan.errors import BadInput
from skyfan.runs.exports.results import Column, Results, ascii_texts, plain_values

_BLOCK_BYTES = 2880
# Type letter of a column, its type in the rows, and what is added to stored numbers to have the true ones.
_FORMS = {
    "bool": ("L", "S1", 0),
    "uint8": ("B", "u1", 0),
    "int8": ("I", ">i2", 0),
    "int16": ("I", ">i2", 0),
    "uint16": ("I", ">i2", 2**15),
    "int32": ("J", ">i4", 0),
    "uint32": ("J", ">i4", 2**31),
    "int64": ("K", ">i8", 0),
    "uint64": ("K", ">i8", 2**63),
    "halffloat": ("E", ">f4", 0),
    "float": ("E", ">f4", 0),
    "double": ("D", ">f8", 0),
}


def write_fits(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows; text becomes its ASCII form.

    Missing floats are NaN, missing whole numbers their column's TNULL, missing booleans a zero byte.

    Raises:
        BadInput: whole numbers are missing in a column that holds the number that would mark them.
    """
    columns = results.columns
    rows, widths = results.text_widths()
    nulls = _nulls(results)
    dtype = np.dtype([(column.name, *_row_type(column, widths)) for column in columns])
    described = [_described(column, widths, nulls.get(column.name)) for column in columns]
    header = fits.BinTableHDU.from_columns(described, nrows=0).header
    header["NAXIS2"], header["EXTNAME"] = rows, "PREDICTIONS"
    for number, column in enumerate(columns, start=1):
        if column.ucd:
            header[f"TUCD{number}"] = column.ucd
        if column.description:
            header[f"TCOMM{number}"] = column.description
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        file.write(header.tostring().encode("ascii"))
        for table in results.pieces():
            packed = np.zeros(len(table), dtype)
            for column in columns:
                packed[column.name] = _stored(
                    table[column.name].combine_chunks(), column, dtype[column.name].base, nulls.get(column.name)
                )
            file.write(packed.tobytes())
        file.write(bytes(-rows * dtype.itemsize % _BLOCK_BYTES))
    return rows


def _row_type(column: Column, widths: dict[str, int]) -> tuple[Any, ...]:
    if column.name in widths:
        return (f"S{widths[column.name]}",)
    return _FORMS[str(column.kind)][1], column.row_shape


def _nulls(results: Results) -> dict[str, int]:
    """What marks a missing value as the rows hold it, of each column of whole numbers in which some are missing."""
    marks = {column.name: _mark(column) for column in results.columns if pa.types.is_integer(column.kind)}
    found: set[str] = set()
    for table in results.pieces(list(marks)):
        found |= {name for name in marks if table[name].null_count}
    return {name: mark for name, mark in marks.items() if name in found}


def _mark(column: Column) -> int:
    """The number at the end of the stored type's range that catalogues use least."""
    limits = np.iinfo(_FORMS[str(column.kind)][1])
    return int(limits.max if pa.types.is_unsigned_integer(column.kind) else limits.min)


def _described(column: Column, widths: dict[str, int], null: int | None) -> fits.Column:
    if column.name in widths:
        return fits.Column(column.name, f"{widths[column.name]}A")
    letter, _, zero = _FORMS[str(column.kind)]
    count = int(np.prod(column.row_shape))
    about: dict[str, Any] = {"unit": column.unit, "null": null, "bzero": zero or None}
    if len(column.row_shape) > 1:
        about["dim"] = f"({','.join(map(str, reversed(column.row_shape)))})"
    return fits.Column(column.name, f"{count if column.row_shape else ''}{letter}", **about)


def _stored(values: pa.Array, column: Column, dtype: np.dtype[Any], null: int | None) -> NDArray[Any]:
    """The column's values as the rows hold them, each of the type `dtype`; `null` marks those that are missing."""
    if pa.types.is_string(column.kind):
        return np.array(ascii_texts(values), dtype)
    if pa.types.is_floating(column.kind):
        return plain_values(values, column)
    # Only those that are there: numpy would make floats of whole numbers with gaps.
    known = _encoded(plain_values(values.drop_null(), column), str(column.kind))
    if null is not None and (known == null).any():
        raise BadInput(
            f"FITS would mark what is missing in the column {column.name} by a number that the column holds; "
            "export as .parquet or .ecsv."
        )
    found = np.zeros((len(values), *column.row_shape), dtype)
    if null is not None:
        found[...] = null
    found[values.is_valid().to_numpy(zero_copy_only=False)] = known
    return found


def _encoded(values: NDArray[Any], kind: str) -> NDArray[Any]:
    if kind == "bool":
        return np.where(values, b"T", b"F")
    if not _FORMS[kind][2]:
        return values
    bits = values.dtype.itemsize * 8  # in wrapping arithmetic: 2^63 is one bit
    return np.asarray((values ^ values.dtype.type(1 << (bits - 1))).view(f"i{values.dtype.itemsize}"))
