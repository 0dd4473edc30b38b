"""A run's rows, piece by piece in dataset order, as exports take them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.errors import LocationError
from skyfan.planning import Plan
from skyfan.runs.commit import RunLedger
from skyfan.runs.result_rows import SHAPE_KEY, list_rows

PIECE_ROWS = 65_536


@dataclass(frozen=True)
class Column:
    """What an export says of a column, beside its type; `ucd` is IVOA's word for what it means (UCD1+)."""

    name: str
    kind: pa.DataType
    row_shape: tuple[int, ...]
    unit: str
    ucd: str
    description: str


# IVOA's words: https://www.ivoa.net/documents/UCD1+/
_KNOWN = {
    "sample_index": ("", "meta.record", "number of the sample in the dataset"),
    "z_pred": ("", "src.redshift.phot", "predicted redshift"),
    "z_spec": ("", "src.redshift", "spectroscopic redshift of the dataset"),
    "delta_z": ("", "src.redshift;arith.diff", "(z_pred - z_spec) / (1 + z_spec)"),
    "z_low": ("", "stat.min;src.redshift.phot", "lower end of the interval that holds 68%"),
    "z_high": ("", "stat.max;src.redshift.phot", "upper end of the interval that holds 68%"),
    "pz_median": ("", "src.redshift.phot;stat.median", "median of p(z)"),
    "pz_mean": ("", "src.redshift.phot;stat.mean", "mean of p(z)"),
    "pz_mode": ("", "src.redshift.phot;stat.max", "redshift of the highest p(z)"),
    "odds": ("", "stat.probability", "probability that the relative error of z_pred is below 3%"),
    "pit": ("", "stat.probability", "cumulative p(z) at z_spec"),
    "crps": ("", "stat.fit.goodness", "continuous ranked probability score at z_spec"),
    "cde_loss": ("", "stat.fit.goodness", "integral of p(z)^2 minus 2 p(z_spec)"),
    "class": ("", "meta.code.class", "likeliest class"),
    "confidence": ("", "stat.probability", "probability of the likeliest class"),
    "true_class": ("", "meta.code.class", "class of the dataset"),
    "missing": ("", "meta.note", "why there is no prediction"),
    "replaced_values": ("", "meta.number", "missing input values that were replaced"),
    "ra": ("deg", "pos.eq.ra;meta.main", "right ascension"),
    "dec": ("deg", "pos.eq.dec;meta.main", "declination"),
}


@dataclass(frozen=True)
class Results:
    """The committed rows of a run, to be written as the table `name`."""

    folder: RunLedger
    plan: Plan
    name: str

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns and their types.

        Raises:
            LocationError: nothing is committed.
        """
        ranks = self.folder.committed_of(self.plan)
        if not ranks:
            raise LocationError(f"{self.folder.uri} holds no predictions yet: run the same command again.")
        found = self.folder.open_predictions(ranks[0], self.plan.run_id).schema_arrow.remove_metadata()
        return found if "missing" in found.names else found.append(pa.field("missing", pa.string()))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns as exports describe them."""
        return tuple(self._column(field) for field in self.schema)

    def text_widths(self) -> tuple[int, dict[str, int]]:
        r"""The number of rows, and the longest text of each column of text, at least 1: headers have both.

        Characters that are not ASCII count as their escapes (`\xe9`), which FITS needs.
        """
        texts = [column.name for column in self.columns if pa.types.is_string(column.kind)]
        widths, rows = dict.fromkeys(texts, 1), 0
        for table in self.pieces(texts):
            rows += len(table)
            for name in texts:
                widths[name] = max([widths[name], *map(len, ascii_texts(table[name]))])
        return rows, widths

    def pieces(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in dataset order, at most `PIECE_ROWS` at a time, with the columns of `schema`, or these of them."""
        schema = self.schema if names is None else pa.schema([self.schema.field(name) for name in names])
        for rank in self.folder.committed_of(self.plan):
            file = self.folder.open_predictions(rank, self.plan.run_id)
            there = [name for name in schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(PIECE_ROWS, columns=there):
                columns = [
                    batch[name].cast(kind) if name in there else pa.nulls(len(batch), kind)
                    for name, kind in zip(schema.names, schema.types, strict=True)
                ]
                yield pa.Table.from_arrays(columns, schema=schema)

    def _column(self, field: pa.Field) -> Column:
        shape: tuple[int, ...] = ()
        kind = field.type
        if pa.types.is_fixed_size_list(kind):
            shape, kind = (kind.list_size,), kind.value_type
            if field.metadata and SHAPE_KEY in field.metadata:
                shape = tuple(json.loads(field.metadata[SHAPE_KEY]))
        unit, ucd, description = _KNOWN.get(field.name, ("", "", ""))
        if field.name == self.plan.id_column:
            ucd, description = "meta.id;meta.main", "object ID"
        return Column(field.name, kind, shape, unit, ucd, description)


def plain_values(values: pa.Array, column: Column) -> NDArray[Any]:
    """Numbers [N, *row_shape]; NaN where there are none."""
    if not column.row_shape:
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return list_rows(values).reshape(len(values), *column.row_shape)


def ascii_texts(values: pa.Array | pa.ChunkedArray) -> list[bytes]:
    """Texts in ASCII, other characters as escapes; empty where there is none."""
    return [(text or "").encode("ascii", "backslashreplace") for text in values.to_pylist()]
