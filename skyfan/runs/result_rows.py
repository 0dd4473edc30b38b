"""Rows of results as Arrow tables: which columns they have, and of which types."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.science.metrics import delta_z
from skyfan.science.sentinels import known_redshifts

SHAPE_KEY = b"skyfan.shape"
"""In the metadata of a list column: the row's shape as JSON, where it has more than one dimension."""
REDSHIFT_COLUMNS = ("z_pred", "z_spec", "delta_z")
OWN_COLUMNS = ("sample_index", *REDSHIFT_COLUMNS, "missing", "replaced_values")
"""Columns that Skyfan makes itself."""


@dataclass(frozen=True)
class OutputColumn:
    """Columns `columns` of the engine's output as one column of the results, with rows of this shape."""

    name: str
    row_shape: tuple[int, ...]
    columns: slice


@dataclass(frozen=True)
class ResultColumns:
    """What a row of results holds beside its index.

    `kept` are the dataset's own columns, the IDs first; `z_column` is the column of the engine's output that holds
    redshift, if one does; with `counts_replaced` each row tells how many missing values were replaced in its inputs.
    """

    outputs: tuple[OutputColumn, ...]
    kept: tuple[str, ...] = ()
    z_column: int | None = None
    counts_replaced: bool = False

    @property
    def used(self) -> list[int]:
        """The columns of the engine's output that are kept."""
        found = {column for one in self.outputs for column in range(one.columns.start, one.columns.stop)}
        return sorted(found if self.z_column is None else found | {self.z_column})


@dataclass(frozen=True)
class Rows:
    """Consecutive samples' results: arrays of N rows in dataset order.

    `outputs` has shape [N, width] float32; `missing` has the reason why a sample has no prediction, or None; `z_spec`
    is NaN where not known. `kept` are columns of the dataset by name, [N] or [N, …].
    """

    sample_index: NDArray[np.int64]
    outputs: NDArray[np.float32]
    missing: NDArray[np.object_]
    z_spec: NDArray[np.float32] | None = None
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    replaced_values: NDArray[np.int32] | None = None

    def to_table(self, columns: ResultColumns) -> pa.Table:
        """The rows in the order and with the types of the results."""
        absent = np.array([reason is not None for reason in self.missing], np.bool_)
        found: dict[str, tuple[pa.Array, dict[bytes, bytes] | None]] = {
            "sample_index": (pa.array(self.sample_index), None)
        }
        for name in columns.kept:
            found[name] = kept_column(self.kept[name])
        if columns.z_column is not None:
            z_pred = self.outputs[:, columns.z_column]
            found["z_pred"] = (pa.array(z_pred, mask=absent), None)
            if self.z_spec is not None:
                delta = delta_z(np.where(absent, np.nan, z_pred), self.z_spec).astype(np.float32)
                found["z_spec"] = (_nullable(known_redshifts(self.z_spec).astype(np.float32)), None)
                found["delta_z"] = (_nullable(delta), None)
        for output in columns.outputs:
            found[output.name] = _vectors(self.outputs[:, output.columns], output.row_shape, absent)
        if columns.counts_replaced:
            found["replaced_values"] = (pa.array(self.replaced_values, pa.int32()), None)
        found["missing"] = (pa.array(self.missing, pa.string()), None)
        fields = [pa.field(name, array.type, metadata=metadata) for name, (array, metadata) in found.items()]
        return pa.Table.from_arrays([array for array, _ in found.values()], schema=pa.schema(fields))


def kept_column(values: NDArray[Any]) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    """A column of the dataset, [N] or [N, …], with its exact type, and the metadata of its field; null where masked.

    Types that Parquet lacks become ones that hold every value: bfloat16 and float8 become float32.
    """
    if values.dtype.kind == "V":
        values = values.astype(np.float32)
    masked = np.ma.getmaskarray(values).reshape(len(values), -1)[:, 0] if np.ma.isMaskedArray(values) else None
    flat = np.ascontiguousarray(np.ma.getdata(values)).reshape(len(values), -1)
    if values.dtype.kind in "OUST":
        return pa.array([_text(value) for value in flat[:, 0].tolist()], pa.string(), mask=masked), None
    return _vectors(flat, values.shape[1:], masked)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _vectors(
    flat: NDArray[Any], row_shape: tuple[int, ...], absent: NDArray[np.bool_] | None
) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    """Rows [N, width] as one column: plain values of width 1, else lists of fixed size."""
    if flat.shape[1] == 1:
        return pa.array(flat[:, 0], mask=absent), None
    values = pa.array(np.ascontiguousarray(flat).reshape(-1))
    mask = None if absent is None else pa.array(absent)
    column = pa.FixedSizeListArray.from_arrays(values, flat.shape[1], mask=mask)
    metadata = {SHAPE_KEY: json.dumps(row_shape).encode()} if len(row_shape) > 1 else None
    return column, metadata


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))
