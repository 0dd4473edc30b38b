"""The join of a catalogue, done once by the planner: a file with one row a sample, in the dataset's order.

Ranks read their rows of it as they read any other columns. It is a structured `.npy` file in the run's folder, named by
what it was made of, so that numpy opens it and no start of the same run makes it twice.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan import store
from skyfan.columns import REDSHIFT, parse_settings
from skyfan.dtypes import MAX_STRING_CHARACTERS, STRING, numpy_dtype
from skyfan.errors import DatasetError
from skyfan.formats.catalog import Catalog
from skyfan.formats.npy import open_file
from skyfan.formats.tables import Nullable, open_table
from skyfan.job import Job
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import Plan
from skyfan.records import CatalogJoin
from skyfan.runs.folder import RunFolder
from skyfan.stages.catalog_rows import ById, ByRow, first_ids

VALIDITY = ".valid"


def open_catalog(job: Job) -> Catalog | None:
    """The job's catalogue, of which only metadata are read (of CSV all); None: the job has none.

    Raises:
        DatasetError: it is no table.
        LocationError: it cannot be read.
    """
    return Catalog(open_table(job.catalog), job.options) if job.catalog else None


@contextmanager
def joined(planned: Plan, catalog: Catalog | None, folder: RunFolder) -> Iterator[tuple[Plan, Callable[[], None]]]:
    """The plan with the catalogue's columns where they will lie, and what writes them there once the run is claimed.

    Raises:
        DatasetError: the rows cannot be joined.
    """
    names = _names_in(planned.files[0])
    if catalog is None or not names:
        yield planned, lambda: None
        return
    uri = folder.catalog_uri(_digest(planned, catalog))
    earlier = folder.read_plan().catalog if store.exists(uri) and store.exists(folder.plan_uri) else None
    if earlier is not None:
        yield _placed(planned, open_file(uri), uri, earlier), lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="skyfan-") as temporary:
        path = Path(temporary) / "catalog.npy"
        record = _write(path, planned, catalog, names)
        placed = _placed(planned, open_file(path), uri, record)

        def write() -> None:
            store.copy_in(path, uri)

        yield placed, write


def _names_in(file: FileLayout) -> dict[str, str]:
    """Column of the catalogue → what the job calls it."""
    return {spec.source or spec.name: spec.name for spec in file.tensors if spec.uri}


def _digest(planned: Plan, catalog: Catalog) -> str:
    parts = [catalog.table.identity, str(catalog.options.id), *_names_in(planned.files[0])]
    parts += [file.identity for file in planned.files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _placed(planned: Plan, made: FileLayout, uri: str, record: CatalogJoin) -> Plan:
    """The plan with each file's part of the rows in `made`."""
    columns = {spec.name: spec for spec in made.tensors}
    files, first = [], 0
    for file in planned.files:
        tensors: list[TensorSpec] = []
        for spec in file.tensors:
            if not spec.uri:
                tensors.append(spec)
                continue
            validity = columns.get(f"{spec.source or spec.name}{VALIDITY}")
            if validity is not None:
                tensors.append(_rows_of(validity, replace(validity, shape=(file.samples,)), first, uri))
            at = _rows_of(columns[spec.source or spec.name], spec, first, uri)
            tensors.append(replace(at, validity=validity.name if validity else ""))
        files.append(file.model_copy(update={"tensors": tuple(tensors)}))
        first += file.samples
    return planned.model_copy(update={"files": tuple(files), "catalog": record})


def _rows_of(column: TensorSpec, meant: TensorSpec, first: int, uri: str) -> TensorSpec:
    """The column as the job means it, its rows those from `first` on."""
    return replace(
        meant,
        offset_bytes=column.offset_bytes + first * column.distance_bytes,
        stride_bytes=column.stride_bytes,
        byteorder=column.byteorder,
        stored=meant.stored or column.stored,
        uri=uri,
    )


def _write(path: Path, planned: Plan, catalog: Catalog, names: dict[str, str]) -> CatalogJoin:
    """Writes the joined rows as one structured array, piece by piece."""
    table, files = catalog.table, planned.files
    key = catalog.join_key([spec.source or spec.name for spec in files[0].tensors if not spec.uri])
    matches = ById.matched(table, key, files) if key else ByRow(table, files)
    samples, unmatched = sum(file.samples for file in files), matches.unmatched()
    with store.named_errors(str(path.parent), "written"):
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=_row_type(catalog, names), shape=(samples,))
        for name in names:
            if rows[name].dtype.kind == "f":
                rows[name][unmatched] = np.nan
        first = 0
        for piece in table.pieces(list(names)):
            count = len(next(iter(piece.values()))[0])
            of_samples, of_piece = matches.of(first, count)
            for name, values in piece.items():
                _fill(rows, name, of_samples, values, of_piece)
            first += count
        _check_inputs(rows, catalog, names)
        rows.flush()
    return CatalogJoin(
        uri=table.uri,
        identity=table.identity,
        joined_by=key,
        rows=table.rows,
        columns=tuple(names.values()),
        samples_matched=samples - len(unmatched),
        samples_unmatched=len(unmatched),
        first_unmatched=first_ids(files, key, unmatched) if key else (),
        duplicates=matches.duplicates,
        unused_rows=matches.unused_rows,
    )


def _row_type(catalog: Catalog, names: dict[str, str]) -> np.dtype[Any]:
    """The type of a joined row; text is UTF-8 as long as the longest, and what is no float says where it has values."""
    texts = [name for name in names if catalog.table.columns[name].dtype == STRING]
    widths = dict.fromkeys(texts, 1)
    for piece in catalog.table.pieces(texts) if texts else ():
        for name, (values, _) in piece.items():
            widths[name] = max(widths[name], *(len(_utf8(value)) for value in values), 1)
    fields: list[Any] = []
    for name in names:
        kind = catalog.table.columns[name]
        if widths.get(name, 0) > MAX_STRING_CHARACTERS:
            raise DatasetError(
                f"{catalog.table.uri} has text of {widths[name]:,} bytes in column {name!r}; at most "
                f"{MAX_STRING_CHARACTERS:,} are kept: leave the column out of --keep."
            )
        dtype = np.dtype(f"S{widths[name]}") if name in widths else numpy_dtype(kind.dtype)
        fields.append((name, dtype, kind.row_shape))
        if dtype.kind != "f":
            fields.append((f"{name}{VALIDITY}", np.uint8))
    return np.dtype(fields)


def _utf8(value: object) -> bytes:
    return b"" if value is None else str(value).encode()


def _fill(rows: NDArray[Any], name: str, samples: Any, given: Nullable, of_piece: Any) -> None:
    values, valid = given
    chosen = values[of_piece]
    rows[name][samples] = [_utf8(value) for value in chosen] if rows[name].dtype.kind == "S" else chosen
    if rows[name].dtype.kind != "f":
        rows[f"{name}{VALIDITY}"][samples] = 1 if valid is None else valid[of_piece]


def _check_inputs(rows: NDArray[Any], catalog: Catalog, names: dict[str, str]) -> None:
    """Where a whole number is missing there is no NaN that could stand for it."""
    inputs = {*parse_settings(catalog.options.inputs), REDSHIFT}
    for name, meant in names.items():
        if meant in inputs and rows[name].dtype.kind != "f" and not rows[f"{name}{VALIDITY}"].all():
            raise DatasetError(
                f"{catalog.table.uri} lacks values of column {name!r}, which is {rows[name].dtype}; write it as floats."
            )
