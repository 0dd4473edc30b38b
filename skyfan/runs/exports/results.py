"""A run's rows, piece by piece in dataset order, as exports take them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from skyfan.errors import LocationError
from skyfan.planning import Plan
from skyfan.runs.commit import RunLedger
from skyfan.runs.result_rows import SHAPE_KEY

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
    "missing": ("", "meta.note", "why there is no prediction"),
    "replaced_values": ("", "meta.number", "missing input values that were replaced"),
    "ra": ("deg", "pos.eq.ra;meta.main", "right ascension"),
    "dec": ("deg", "pos.eq.dec;meta.main", "declination"),
}


@dataclass(frozen=True)
class Results:
    """The committed rows of a run."""

    folder: RunLedger
    plan: Plan

    @property
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

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns as exports describe them."""
        return tuple(self._column(field) for field in self.schema)

    def pieces(self) -> Iterator[pa.Table]:
        """All rows in dataset order, at most `PIECE_ROWS` at a time, with the columns of `schema`."""
        schema = self.schema
        for rank in self.folder.committed_of(self.plan):
            file = self.folder.open_predictions(rank, self.plan.run_id)
            for batch in file.iter_batches(PIECE_ROWS):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                if "missing" not in table.column_names:
                    table = table.append_column("missing", pa.nulls(len(table), pa.string()))
                yield table.cast(schema)

    def _column(self, field: pa.Field) -> Column:
        shape: tuple[int, ...] = ()
        kind = field.type
        if pa.types.is_fixed_size_list(kind):
            shape, kind = (kind.list_size,), kind.value_type
            if field.metadata and SHAPE_KEY in field.metadata:
                shape = tuple(json.loads(field.metadata[SHAPE_KEY]))
        unit, ucd, description = _KNOWN.get(field.name, ("", "", ""))
        if field.name == self.plan.job.id:
            ucd, description = "meta.id;meta.main", "object ID"
        return Column(field.name, kind, shape, unit, ucd, description)
