"""Rows of results as Arrow tables: which columns they have, and of which types."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.pz_form import PzForm, parse_pz
from skyfan.runs.estimates import (
    CLASS_COLUMNS,
    INTERVAL_COLUMNS,
    POINT_COLUMNS,
    REDSHIFT_COLUMNS,
    ClassColumns,
    PzColumns,
    Redshifts,
    classes,
    redshifts,
)

SHAPE_KEY = b"skyfan.shape"
"""In the metadata of a list column: the row's shape as JSON, where it has more than one dimension."""
_Metadata = dict[bytes, bytes] | None
PZ_KEY, PZ_PART_KEY = b"skyfan.pz", b"skyfan.pz_part"
"""In the metadata of p(z)'s columns: its form as `skyfan.pz_form` reads it, and which part of it, from 0."""
CLASSES_KEY = b"skyfan.classes"
"""In the metadata of the column of class probabilities: their names as JSON."""


def pz_columns(schema: pa.Schema) -> tuple[PzForm | None, list[str]]:
    """The form of p(z) in a run's results, None where they have none; its columns in the order of its parts."""
    parts = [field for field in schema if field.metadata and PZ_KEY in field.metadata]
    parts.sort(key=lambda field: int(field.metadata[PZ_PART_KEY]))
    return parse_pz(parts[0].metadata[PZ_KEY].decode()) if parts else None, [field.name for field in parts]


def list_rows(column: pa.Array) -> NDArray[Any]:
    """A column of lists of one size as [N, size], of numbers as [N, 1]; NaN where there is no value."""
    is_list = pa.types.is_fixed_size_list(column.type)
    width = column.type.list_size if is_list else 1
    values = column.values.slice(column.offset * width, len(column) * width) if is_list else column
    rows = np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)
    if is_list and column.null_count:
        rows = np.where(column.is_valid().to_numpy(zero_copy_only=False)[:, None], rows, np.nan)
    return rows


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
    redshift, if one does, `pz` where p(z) is, and `half_width` that of calibrated intervals; `classes` has where scores
    are. With `counts_replaced` each row tells how many missing values were replaced in its inputs.
    """

    outputs: tuple[OutputColumn, ...]
    kept: tuple[str, ...] = ()
    z_column: int | None = None
    counts_replaced: bool = False
    pz: PzColumns | None = None
    half_width: float | None = None
    classes: ClassColumns | None = None

    @property
    def used(self) -> list[int]:
        """The columns of the engine's output that are kept."""
        found = {column for one in self.outputs for column in range(one.columns.start, one.columns.stop)}
        return sorted(found if self.z_column is None else found | {self.z_column})

    @property
    def own(self) -> tuple[str, ...]:
        """Columns that Skyfan makes itself."""
        intervals = INTERVAL_COLUMNS if self.half_width is not None else ()
        redshift = REDSHIFT_COLUMNS if self.pz else (*POINT_COLUMNS, *intervals)
        return ("sample_index", *redshift, *(CLASS_COLUMNS if self.classes else ()), "missing", "replaced_values")

    def redshifts(self, outputs: NDArray[np.float32], z_spec: NDArray[np.float32] | None) -> Redshifts | None:
        """The redshifts in outputs [N, width]; None where redshift is not meant."""
        found_in = self.z_column if self.pz is None else self.pz
        return None if found_in is None else redshifts(outputs, found_in, z_spec, self.half_width)


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
    redshifts: Redshifts | None = None
    """Those of `outputs`, where they were computed already."""

    def to_table(self, columns: ResultColumns) -> pa.Table:
        """The rows in the order and with the types of the results."""
        absent = self.missing.astype(np.bool_)
        found: dict[str, tuple[pa.Array, _Metadata]] = {"sample_index": (pa.array(self.sample_index), None)}
        for name in columns.kept:
            found[name] = kept_column(self.kept[name])
        redshifts = self.redshifts or columns.redshifts(self.outputs, self.z_spec)
        for name, values in redshifts.columns.items() if redshifts else ():
            found[name] = (_nullable(values if name == "z_spec" else np.where(absent, np.nan, values)), None)
        if columns.classes:
            found |= self._classes(columns.classes, absent)
        for output in columns.outputs:
            values = self.outputs[:, output.columns]
            found[output.name] = _vectors(values, output.row_shape, absent)
        if columns.pz and redshifts:
            found |= _pz_parts(columns, redshifts, absent)
        if columns.counts_replaced:
            found["replaced_values"] = (pa.array(self.replaced_values, pa.int32()), None)
        found["missing"] = (pa.array(self.missing, pa.string()), None)
        fields = [pa.field(name, array.type, metadata=metadata) for name, (array, metadata) in found.items()]
        return pa.Table.from_arrays([array for array, _ in found.values()], schema=pa.schema(fields))

    def _classes(self, wanted: ClassColumns, absent: NDArray[np.bool_]) -> dict[str, tuple[pa.Array, _Metadata]]:
        labels = None if wanted.labels is None else self.kept[wanted.labels]
        found = classes(self.outputs[:, wanted.columns], wanted, labels)
        own = {"class": _class_names(found.likeliest, wanted, absent)}
        own["confidence"] = pa.array(found.confidence, mask=absent)
        if found.true is not None:
            own["true_class"] = _class_names(found.true, wanted, found.true < 0)
        probabilities, _ = _vectors(found.probabilities, (len(wanted.names),), absent)
        columns: dict[str, tuple[pa.Array, _Metadata]] = {name: (values, None) for name, values in own.items()}
        return columns | {"class_probability": (probabilities, {CLASSES_KEY: json.dumps(wanted.names).encode()})}


def _class_names(numbers: NDArray[np.int64], wanted: ClassColumns, absent: NDArray[np.bool_]) -> pa.Array:
    names = pa.array([*wanted.names], pa.string())
    return names.take(pa.array(np.maximum(numbers, 0), mask=absent))


def _pz_parts(
    columns: ResultColumns, redshifts: Redshifts, absent: NDArray[np.bool_]
) -> dict[str, tuple[pa.Array, _Metadata]]:
    assert columns.pz is not None
    found: dict[str, tuple[pa.Array, _Metadata]] = {}
    for number, (name, part) in enumerate(zip(columns.pz.names, redshifts.parts, strict=True)):
        values, _ = _vectors(part, (part.shape[1],), absent)
        found[name] = (values, {PZ_KEY: str(columns.pz.form).encode(), PZ_PART_KEY: str(number).encode()})
    return found


def kept_column(values: NDArray[Any]) -> tuple[pa.Array, _Metadata]:
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
) -> tuple[pa.Array, _Metadata]:
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
