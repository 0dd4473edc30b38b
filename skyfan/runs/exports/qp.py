"""An ensemble of p(z) for qp and RAIL: an HDF5 file that `qp.read` opens, with IDs and point estimates beside it.

https://qp.readthedocs.io/ ; ancillary columns are named as RAIL does: `id`, `redshift`, `zmode`, `zmean`, `zmedian`.
qp describes the form, and holds an ensemble in memory; the rows are appended here, piece by piece.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import qp
from numpy.typing import NDArray

from skyfan.errors import BadInput
from skyfan.pz_form import PzForm
from skyfan.runs.exports.results import Column, Results, ascii_texts, plain_values
from skyfan.runs.result_rows import pz_columns
from skyfan.science.pz import Piecewise, distributions

_ANCILLARY = {"zmode": "pz_mode", "zmean": "pz_mean", "zmedian": "pz_median", "redshift": "z_spec"}
_CHUNK_ROWS = 1024


def write_qp(results: Results, path: Path) -> int:
    """Writes the file and returns its number of rows; those without p(z) are left out.

    Raises:
        BadInput: the results hold no p(z), or rows without an ID that is a number.
    """
    form, parts = pz_columns(results.schema)
    if form is None:
        raise BadInput(
            "these results hold no p(z): the model gives none, or it was not declared. Run again with --pz (as "
            "grid=0:3:301) and another --output."
        )
    named = results.plan.id_column
    ids = named if named is not None and named in results.schema.names else "sample_index"
    shown = {name: column for name, column in _ANCILLARY.items() if column in results.schema.names}
    columns = {column.name: column for column in results.columns}
    is_text = pa.types.is_string(results.schema.field(ids).type)
    width = results.text_widths()[1][ids] if is_text else 0
    rows = 0
    with h5py.File(path, "w") as file:
        for piece in results.pieces([*parts, ids, *shown.values()]):
            table = piece.filter(piece[parts[0]].is_valid())
            if not len(table):
                continue
            tables = _ensemble(form, [_values(table, columns[name]) for name in parts]).build_tables()
            if not rows:
                for name, values in tables["meta"].items():
                    file.create_dataset(f"meta/{name}", data=values)
            ancillary = {"id": _ids(table[ids], ids, width)}
            ancillary |= {name: table[column].to_numpy() for name, column in shown.items()}
            for group, found in (("data", tables["data"]), ("ancil", ancillary)):
                _append(file.require_group(group), found, rows)
            rows += len(table)
    if not rows:
        raise BadInput("none of the rows has a p(z).")
    return rows


def _values(table: pa.Table, column: Column) -> NDArray[np.float64]:
    return plain_values(table[column.name].combine_chunks(), column).reshape(len(table), -1).astype(np.float64)


def _ensemble(form: PzForm, parts: list[NDArray[np.float64]]) -> Any:
    """In qp's own form where it has the same; draws as the quantiles that they are taken for."""
    if form.kind == "mixture":
        return qp.Ensemble(qp.mixmod, {"means": parts[0], "stds": parts[1], "weights": parts[2]})
    if form.kind == "grid":
        grid = np.linspace(form.low, form.high, form.points)
        return qp.Ensemble(qp.interp, {"xvals": grid, "yvals": parts[0]})
    if form.kind == "bins":
        edges = np.linspace(form.low, form.high, form.points + 1)
        return qp.Ensemble(qp.hist, {"bins": edges, "pdfs": parts[0]})
    pz = distributions(form, tuple(parts))
    assert isinstance(pz, Piecewise)
    return qp.Ensemble(qp.quant, {"quants": pz.cumulative[0], "locs": pz.knots})


def _append(group: h5py.Group, columns: Mapping[str, NDArray[Any]], rows: int) -> None:
    for name, values in columns.items():
        if name not in group:
            shape = (0, *values.shape[1:])
            chunks = (_CHUNK_ROWS, *values.shape[1:])
            group.create_dataset(name, shape, values.dtype, maxshape=(None, *values.shape[1:]), chunks=chunks)
        group[name].resize(rows + len(values), axis=0)
        group[name][rows:] = values


def _ids(ids: pa.ChunkedArray, name: str, width: int) -> NDArray[Any]:
    """As HDF5 stores them: text of fixed length, empty where there is none; numbers exactly."""
    if width:
        return np.array(ascii_texts(ids), f"S{width}")
    if ids.null_count:
        raise BadInput(
            f"rows have no {name}, and an ensemble has a number for each; export as .parquet, or run again with "
            "another --id and --output."
        )
    return np.asarray(ids.to_numpy())
