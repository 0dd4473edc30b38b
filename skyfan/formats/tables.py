"""Catalogues: tables of any size, read in pieces, each column with its exact type.

Whatever a dataset can be is a table, too; Parquet is read with its missing values, and CSV and ECSV, which are no
datasets, are read here. Whole numbers never become floats.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skyfan import store
from skyfan.dtypes import STRING, numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.base import check_name, refusal
from skyfan.formats.dataset import read_layouts
from skyfan.formats.ecsv import declared_types, is_ecsv
from skyfan.formats.notes import joined
from skyfan.formats.parquet import member
from skyfan.formats.registry import suffix_of
from skyfan.formats.rows import read_batch
from skyfan.layout import FileLayout
from skyfan.plain_text import first_line

PIECE_ROWS = 65_536
MAX_TEXT_BYTES = 2**30
_TEXT_TABLES = (".csv", ".ecsv")

Nullable = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Values [N, …] and which of them there are; None: all."""
Piece = dict[str, Nullable]


@dataclass(frozen=True)
class Kind:
    """What a column holds: a dtype of `skyfan.dtypes`, and the shape of one row."""

    dtype: str
    row_shape: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """An opened catalogue; `pieces` reads some of its columns from the first row to the last.

    `identity` is that of its content; `left_out` are columns that are neither numbers nor text; `note` is what its
    files say of themselves (`skyfan.formats.notes`).
    """

    uri: str
    identity: str
    rows: int
    columns: dict[str, Kind]
    left_out: tuple[str, ...]
    pieces: Callable[[Sequence[str]], Iterator[Piece]]
    note: str = ""

    def require(self, name: str, option: str) -> Kind:
        """The column that an option names.

        Raises:
            DatasetError: there is none.
        """
        if name not in self.columns:
            raise DatasetError(f"{self.uri} has no column {name!r}, which {option} names; {self._held()}.")
        return self.columns[name]

    def _held(self) -> str:
        left_out = f" ({', '.join(self.left_out[:20])} cannot be read)" if self.left_out else ""
        return f"it holds {', '.join(self.columns)}{left_out}"


def open_table(uri: str) -> Table:
    """The table at a path or URI: CSV, ECSV, or a file or folder of any format of datasets.

    Raises:
        DatasetError: it is none, or a text table of more than `MAX_TEXT_BYTES`.
        LocationError: it cannot be read.
    """
    if suffix_of(uri) in _TEXT_TABLES:
        return _text_table(uri)
    files = read_layouts(uri)
    columns = {spec.name: Kind(spec.dtype, spec.row_shape) for spec in files[0].tensors}
    usable = {name: kind for name, kind in columns.items() if _is_plain(kind)}

    def pieces(names: Sequence[str]) -> Iterator[Piece]:
        for file in files:
            yield from (_parquet_pieces if file.format == "parquet" else _array_pieces)(file, names)

    return Table(
        uri=files[0].uri if len(files) == 1 else uri,
        identity=hashlib.sha256("\n".join(file.identity for file in files).encode()).hexdigest(),
        rows=sum(file.samples for file in files),
        columns=usable,
        left_out=(*files[0].left_out, *(name for name in columns if name not in usable)),
        pieces=pieces,
        note=joined(file.note for file in files),
    )


def read_whole(table: Table) -> dict[str, NDArray[Any]]:
    """All columns of a small table; missing text is None, other missing values are refused.

    Raises:
        DatasetError: it cannot be read as it was opened, or values are missing in a column of whole numbers.
    """
    pieces = list(table.pieces(list(table.columns)))
    for name in table.columns:
        if any(valid is not None and values.dtype.kind in "biu" for values, valid in (one[name] for one in pieces)):
            raise DatasetError(f"{table.uri} has missing values in column {name!r}; fill them, or leave the rows out.")
    return {name: np.concatenate([piece[name][0] for piece in pieces]) for name in table.columns}


def _is_plain(kind: Kind) -> bool:
    """Whether a numpy file can hold it, and a table of results."""
    return kind.dtype == STRING or numpy_dtype(kind.dtype).kind in "biuf"


def _array_pieces(file: FileLayout, names: Sequence[str]) -> Iterator[Piece]:
    specs = [file.tensor(name) for name in names]
    for start in range(0, file.samples, PIECE_ROWS):
        rows = read_batch(file.uri, specs, start, min(start + PIECE_ROWS, file.samples), etag=file.etag)
        yield {name: (values, _present(values)) for name, values in rows.items()}


def _present(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    if values.dtype.kind != "O":
        return None
    present = np.array([value is not None for value in values], np.bool_)
    return None if present.all() else present


def _parquet_pieces(file: FileLayout, names: Sequence[str]) -> Iterator[Piece]:
    kinds = {name: Kind(file.tensor(name).dtype, file.tensor(name).row_shape) for name in names}
    try:
        source = pa.PythonFile(store.RangeFile(store.head(file.uri)), mode="r")
        for batch in pq.ParquetFile(source).iter_batches(PIECE_ROWS, columns=list(names), use_threads=False):
            table = pa.Table.from_batches([batch])
            yield {name: _values(file.uri, name, member(table, name), kind) for name, kind in kinds.items()}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise refusal(file.uri, f"is a damaged Parquet file ({first_line(error)[:200]}); copy it again") from error


def _values(uri: str, name: str, array: pa.Array, kind: Kind) -> Nullable:
    valid = None if not array.null_count else np.asarray(array.is_valid())
    if kind.dtype == STRING:
        return np.array(array.to_pylist(), object), valid
    dtype, shape = numpy_dtype(kind.dtype), (len(array), *kind.row_shape)
    while not pa.types.is_primitive(array.type):
        if array.null_count:
            raise refusal(uri, f"has rows without a list in column {name!r}; fill them, or leave the column out")
        array = array.flatten()
    if array.null_count:
        array = array.fill_null(float("nan") if dtype.kind == "f" else 0)
    if array.type == pa.bool_():
        array = array.cast(pa.uint8())
    values = array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    if values.size != int(np.prod(shape)):
        raise refusal(uri, f"has lists of several lengths in column {name!r}; pad them, or leave the column out")
    return values.reshape(shape), None if dtype.kind == "f" else valid


def _text_table(uri: str) -> Table:
    info = store.head(uri)
    if info.size_bytes > MAX_TEXT_BYTES:
        raise refusal(info.uri, f"is a text table of more than {MAX_TEXT_BYTES // 2**30} GB; write it as Parquet")
    import pyarrow.compute as pc  # here: no cold start waits for it (tests/serving/test_imports.py)

    content = store.read(info.uri)
    declared = declared_types(info.uri, content) if is_ecsv(content) else None
    try:
        table = _parsed(content, declared.delimiter if declared else ",")
    except pa.ArrowException as error:
        raise refusal(info.uri, f"is not a table of text ({first_line(error)[:200]})") from error
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        check_name(info.uri, name)
        texts = pc.utf8_trim_whitespace(table[name].combine_chunks())
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        columns[name] = declared.column(name, texts) if declared else _typed(texts)
    kinds = {name: Kind(_dtype_of(array.type), ()) for name, array in columns.items()}

    def pieces(names: Sequence[str]) -> Iterator[Piece]:
        for start in range(0, len(table), PIECE_ROWS):
            yield {name: _values(info.uri, name, columns[name].slice(start, PIECE_ROWS), kinds[name]) for name in names}

    return Table(info.uri, f"sha256:{hashlib.sha256(content).hexdigest()}", len(table), kinds, (), pieces)


def _parsed(content: bytes, delimiter: str) -> pa.Table:
    """Every column as text. Lines that begin with # come before the names."""
    from pyarrow import csv

    body = io.BytesIO(content)
    while True:
        at = body.tell()
        if not body.readline().startswith(b"#"):
            body.seek(at)
            break
    options = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = csv.open_csv(body, parse_options=options).schema.names if content else []
    body.seek(at)
    if len(set(names)) < len(names):
        raise pa.ArrowInvalid("two columns have one name")
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return csv.read_csv(body, parse_options=options, convert_options=convert)


def _dtype_of(kind: pa.DataType) -> str:
    return (
        STRING if pa.types.is_string(kind) else "bool" if kind == pa.bool_() else np.dtype(kind.to_pandas_dtype()).name
    )


def _typed(texts: pa.Array) -> pa.Array:
    """Whole numbers where writing them again gives the same text, else floats, else the text itself."""
    import pyarrow.compute as pc

    if texts.null_count == len(texts):
        return texts
    for kind in (pa.int64(), pa.uint64(), pa.float64()):
        try:
            found = texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        if kind == pa.float64():
            return texts if pc.any(pc.match_substring_regex(texts, "^[+-]?[0-9]{16,}$")).as_py() else found
        if pc.all(pc.equal(found.cast(pa.string()), texts)).as_py():
            return found
    return texts
