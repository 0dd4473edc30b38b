"""FITS: image cubes [samples, …] and binary tables, read by byte ranges; headers alone tell where.

Source: FITS standard 4.0, https://fits.gsfc.nasa.gov/fits_standard.html; sections 4 (headers), 5.2 (scaling), 7.3
(binary tables).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from skyfan import store
from skyfan.formats.base import column, layout, refusal
from skyfan.layout import FileLayout, StoredForm, TensorSpec

_BLOCK_BYTES, _CARD_BYTES = 2880, 80
_MAX_HEADER_BLOCKS = 400
_MAX_HDUS = 1_000
_READ_BLOCKS = 6
_IMAGE_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_TABLE_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"}
_BYTES = {"L": 1, "A": 1, "P": 8, "Q": 16} | {code: np.dtype(kind).itemsize for code, kind in _TABLE_DTYPES.items()}
_UNREAD = {"L": "logical", "X": "bits"}
# Whole numbers that FITS lacks are stored with the sign turned round: table 11 of the standard.
_TURNED = {("uint8", -128): "int8", **{(f"int{bits}", 2 ** (bits - 1)): f"uint{bits}" for bits in (16, 32, 64)}}

Value = str | float | int | bool


@dataclass(frozen=True)
class _Hdu:
    """One header and where its data begin."""

    number: int
    header: dict[str, Value]
    data_at: int

    def whole(self, key: str, default: int = 0) -> int:
        value = self.header.get(key, default)
        return value if isinstance(value, int) else default

    def text(self, key: str) -> str:
        return str(self.header.get(key, "")).strip()

    @property
    def axes(self) -> list[int]:
        """From the slowest to the fastest, as arrays have them."""
        return [self.whole(f"NAXIS{n}") for n in range(min(self.whole("NAXIS"), 999), 0, -1)]

    @property
    def size_bytes(self) -> int:
        values = math.prod(self.axes) if self.axes else 0
        return abs(self.whole("BITPIX")) // 8 * self.whole("GCOUNT", 1) * (self.whole("PCOUNT") + values)


def open_file(uri: store.StrPath) -> FileLayout:
    """Columns of the tables by their names, of image cubes by EXTNAME in small letters (`data` for an unnamed one).

    Of parts that have another number of rows than the largest nothing is read.

    Raises:
        DatasetError: it is no FITS file, is tile-compressed, has columns in a heap, or is damaged.
    """
    info = store.head(uri)
    hdus = [hdu for hdu in _hdus(info) if hdu.size_bytes and all(hdu.axes)]
    found = [columns for hdu in hdus if (columns := _columns(info.uri, hdu))]
    largest = max(found, key=lambda specs: specs[0].samples * specs[0].distance_bytes, default=[])
    kept = [spec for specs in found for spec in specs if spec.samples == largest[0].samples]
    left_out = [f"{spec.name} ({spec.samples} rows)" for specs in found for spec in specs if spec not in kept]
    left_out += [name for hdu in hdus for name in _unread(hdu)]
    return layout(info, "fits", kept, repr([hdu.header for hdu in hdus]).encode(), left_out=left_out)


def _hdus(info: store.ObjectInfo) -> Iterator[_Hdu]:
    position = 0
    for number in range(_MAX_HDUS):
        if position + _BLOCK_BYTES > info.size_bytes:
            return
        cards, data_at = _header(info, position, number)
        hdu = _Hdu(number, cards, data_at)
        sizes = [*hdu.axes, hdu.whole("PCOUNT"), hdu.whole("GCOUNT", 1)]
        if any(size < 0 for size in sizes) or hdu.whole("BITPIX") not in _IMAGE_DTYPES:
            raise refusal(info.uri, f"is damaged: part {number} has an impossible size")
        if data_at + hdu.size_bytes > info.size_bytes:
            raise refusal(info.uri, f"is damaged or truncated: part {number} ends after the file; copy it again")
        yield hdu
        position = data_at + -(-hdu.size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
    raise refusal(info.uri, f"has more than {_MAX_HDUS} parts")


def _header(info: store.ObjectInfo, position: int, number: int) -> tuple[dict[str, Value], int]:
    """The values of a header, and where the data after it begin."""
    values: dict[str, Value] = {}
    for first in range(0, _MAX_HEADER_BLOCKS, _READ_BLOCKS):
        start = position + first * _BLOCK_BYTES
        stop = min(start + _READ_BLOCKS * _BLOCK_BYTES, info.size_bytes)
        block = store.read_range(info.uri, start, stop, etag=info.etag).decode("latin-1") if start < stop else ""
        for at in range(0, len(block) - _CARD_BYTES + 1, _CARD_BYTES):
            card = block[at : at + _CARD_BYTES]
            if not first and not at and not card.startswith("XTENSION" if number else "SIMPLE  ="):
                if number:
                    return {"BITPIX": 8}, info.size_bytes  # what follows the last part is no part
                raise refusal(info.uri, "is not a FITS file")
            key = card[:8].rstrip()
            if key == "END":
                return values, start + (at // _BLOCK_BYTES + 1) * _BLOCK_BYTES
            if card[8:10] == "= ":
                values[key] = _value(card[10:])
    raise refusal(info.uri, f"is damaged or truncated: the header of part {number} has no end; copy it again")


def _value(text: str) -> Value:
    text = text.strip()
    if text.startswith("'"):
        found = re.match(r"'((?:[^']|'')*)'", text)
        return (found[1] if found else text[1:]).replace("''", "'").rstrip()
    text = text.split("/", 1)[0].strip()
    if text in ("T", "F"):
        return text == "T"
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        return int(text)
    try:
        number = float(text.replace("D", "E"))
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _columns(uri: str, hdu: _Hdu) -> list[TensorSpec]:
    if hdu.text("XTENSION") == "BINTABLE":
        return list(_table(uri, hdu))
    if hdu.text("XTENSION") not in ("", "IMAGE") or not hdu.axes:
        return []
    name = hdu.text("EXTNAME").lower() or (f"hdu{hdu.number}" if hdu.number else "data")
    spec = column(uri, name, np.dtype(_IMAGE_DTYPES[hdu.whole("BITPIX")]), hdu.axes, hdu.data_at)
    return [_scaled(hdu, spec, "BSCALE", "BZERO", "BLANK")]


def _unread(hdu: _Hdu) -> Iterator[str]:
    """What of a part is no column of numbers or text, whatever its rows."""
    if hdu.text("XTENSION") == "BINTABLE":
        for number in range(1, min(hdu.whole("TFIELDS"), 999) + 1):
            code = hdu.text(f"TFORM{number}").lstrip("0123456789")[:1]
            if code in _UNREAD:
                yield f"{_column_name(hdu, number)} ({_UNREAD[code]})"
    elif hdu.text("XTENSION") not in ("", "IMAGE"):
        yield f"{hdu.text('EXTNAME') or f'part {hdu.number}'} ({hdu.text('XTENSION')})"


def _column_name(hdu: _Hdu, number: int) -> str:
    return hdu.text(f"TTYPE{number}") or f"column{number}"


def _table(uri: str, hdu: _Hdu) -> Iterator[TensorSpec]:
    if hdu.header.get("ZIMAGE") is True:
        raise refusal(
            uri, "is tile-compressed, and has no rows that can be read alone; use funpack, or skyfan data pack"
        )
    if len(hdu.axes) != 2:
        raise refusal(uri, f"is damaged: part {hdu.number} is a table of {len(hdu.axes)} dimensions")
    rows, row_bytes = hdu.axes
    at = 0
    for number in range(1, min(hdu.whole("TFIELDS"), 999) + 1):
        form = re.match(r"([0-9]{0,9})([A-Z])", hdu.text(f"TFORM{number}"))
        name = _column_name(hdu, number)
        if form is None or (form[2] not in _BYTES and form[2] != "X"):
            raise refusal(uri, f"is damaged: its column {name!r} has no known form")
        count, code = int(form[1] or 1), form[2]
        if code in "PQ":
            raise refusal(
                uri, f"has column {name!r} of rows of several lengths (in the heap); write it as an array of fixed size"
            )
        length = -(-count // 8) if code == "X" else count * _BYTES[code]
        if at + length > row_bytes:
            raise refusal(uri, f"is damaged: its column {name!r} ends after its row")
        if count and code not in _UNREAD:
            dtype = np.dtype(f"S{count}" if code == "A" else _TABLE_DTYPES[code])
            shape = () if code == "A" else _dimensions(hdu.text(f"TDIM{number}"), count)
            spec = column(uri, name, dtype, (rows, *shape), hdu.data_at + at, stride_bytes=row_bytes)
            yield _scaled(hdu, spec, f"TSCAL{number}", f"TZERO{number}", f"TNULL{number}")
        at += length


def _dimensions(text: str, count: int) -> tuple[int, ...]:
    """The shape of a row: TDIM names the fastest dimension first."""
    found = tuple(int(size) for size in re.findall(r"[0-9]{1,9}", text))[::-1]
    if found and math.prod(found) == count:
        return found
    return () if count == 1 else (count,)


def _scaled(hdu: _Hdu, spec: TensorSpec, scale_key: str, zero_key: str, null_key: str) -> TensorSpec:
    """With what a column's numbers mean: scaled whole numbers are read as floats, and missing ones as NaN.

    A missing number of an unscaled column of 32 or 64 bits, unsigned ones too, stays as it is: such columns are IDs,
    which floats would not hold.
    """
    scale, zero = hdu.header.get(scale_key, 1), hdu.header.get(zero_key, 0)
    given = hdu.header.get(null_key)
    null = given if isinstance(given, int) and not isinstance(given, bool) else None
    if spec.stored or not isinstance(scale, int | float) or not isinstance(zero, int | float):
        return spec
    stored = StoredForm(spec.dtype, spec.row_shape, float(scale), int(zero) if zero == int(zero) else zero)
    turned = _TURNED.get((spec.dtype, int(zero))) if scale == 1 and zero == int(zero) else None
    if turned and (null is None or spec.itemsize >= 4):
        return replace(spec, dtype=turned, stored=stored)
    plain = scale == 1 and zero == 0
    if spec.dtype.startswith(("int", "uint")):
        if null is not None and (not plain or spec.itemsize < 4):
            return replace(spec, dtype=_float_of(spec), stored=replace(stored, null=null))
        return spec if plain else replace(spec, dtype=_float_of(spec), stored=stored)
    return spec if plain else replace(spec, stored=stored)


def _float_of(spec: TensorSpec) -> str:
    return "float32" if spec.itemsize < 4 else "float64"
