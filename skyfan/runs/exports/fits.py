"""A FITS binary table: the header by astropy, the rows appended as they are read.

The format: FITS Standard 4.0, section 7.3 (https://fits.gsfc.nasa.gov/fits_standard.html).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

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
    """Writes the file and returns its number of rows. Missing numbers become NaN, text its ASCII form."""
    columns = results.columns
    rows, widths = results.text_widths()
    dtype = np.dtype([(column.name, *_row_type(column, widths)) for column in columns])
    header = fits.BinTableHDU.from_columns([_described(column, widths) for column in columns], nrows=0).header
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
                packed[column.name] = _stored(table[column.name].combine_chunks(), column, dtype[column.name])
            file.write(packed.tobytes())
        file.write(bytes(-rows * dtype.itemsize % _BLOCK_BYTES))
    return rows


def _row_type(column: Column, widths: dict[str, int]) -> tuple[Any, ...]:
    if column.name in widths:
        return (f"S{widths[column.name]}",)
    return _FORMS[str(column.kind)][1], column.row_shape


def _described(column: Column, widths: dict[str, int]) -> fits.Column:
    if column.name in widths:
        return fits.Column(column.name, f"{widths[column.name]}A")
    letter, _, zero = _FORMS[str(column.kind)]
    count = int(np.prod(column.row_shape))
    shape = {"dim": f"({','.join(map(str, reversed(column.row_shape)))})"} if len(column.row_shape) > 1 else {}
    offset = {"bzero": zero} if zero else {}
    return fits.Column(column.name, f"{count if column.row_shape else ''}{letter}", unit=column.unit, **shape, **offset)


def _stored(values: pa.Array, column: Column, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The column's values as the rows hold them."""
    if pa.types.is_string(column.kind):
        return np.array(ascii_texts(values), dtype)
    found = plain_values(values, column)
    if str(column.kind) == "bool":
        return np.where(found, b"T", b"F")
    zero = _FORMS[str(column.kind)][2]
    if zero:  # in wrapping arithmetic: 2^63 is one bit
        bits = found.dtype.itemsize * 8
        return np.asarray((found ^ found.dtype.type(1 << (bits - 1))).view(f"i{found.dtype.itemsize}"))
    return found
