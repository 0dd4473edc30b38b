"""Columns of a catalogue as columns of a dataset: which of them a job needs, and how rows find each other.

A catalogue joins by row number; where `--id` names a column that the data has, by that ID.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from skyfan.columns import REDSHIFT, parse_settings
from skyfan.errors import DatasetError
from skyfan.formats.tables import Kind, Table
from skyfan.job import RunOptions
from skyfan.layout import FileLayout, TensorSpec
from skyfan.planning import ID_NAMES
from skyfan.preprocessing import parse_steps


@dataclass(frozen=True)
class Catalog:
    """An opened catalogue of a job."""

    table: Table
    options: RunOptions

    def join_key(self, own: Sequence[str]) -> str | None:
        """The ID by which rows are joined, given the data's own columns; None: by row number.

        Raises:
            DatasetError: the catalogue lacks that column, or both have IDs and none is named.
        """
        if self.options.id in own:
            self.table.require(str(self.options.id), "--id")
            return self.options.id
        both = next((name for name in own if name.lower() in ID_NAMES and name in self.table.columns), None)
        if both is not None and self.options.id is None:
            raise DatasetError(
                f"the data and {self.table.uri} both have IDs ({both}); add --id {both} to join by them, as rows may "
                "stand in another order."
            )
        return None

    def names(self, own: Sequence[str]) -> tuple[str, ...]:
        """The columns that the job takes from the catalogue; those that the data has itself stay the data's.

        Raises:
            DatasetError: neither has a column that an option names.
        """
        options, columns = self.options, self.table.columns
        named = {
            **dict.fromkeys(parse_settings(options.inputs).values(), "--inputs"),
            **dict.fromkeys((name for name in options.keep if name != "all"), "--keep"),
            **({options.target: "--target"} if options.target else {}),
            **({options.id: "--id"} if options.id else {}),
            **{step.by: "--preprocess" for step in parse_steps(options.preprocess) if step.by},
        }
        renamed = parse_settings(options.inputs)
        for name, option in named.items():
            if name not in own and name not in renamed:
                self.table.require(name, option)
                if option == "--inputs" and options.precision in ("int8", "auto", "bf16"):
                    raise DatasetError(
                        f"--precision {options.precision} is calibrated before a catalogue is joined, and the model's "
                        f"input {name} is in {self.table.uri}; leave --precision out, or write {name} into the data."
                    )
        wanted = {*named, *([] if options.target else [REDSHIFT]), *(columns if "all" in options.keep else [])}
        if options.id is None and not any(name.lower() in ID_NAMES for name in own):
            wanted |= {name for name, kind in columns.items() if name.lower() in ID_NAMES and not kind.row_shape}
        return tuple(name for name in columns if name in wanted and name not in own)

    def planned(self, file: FileLayout) -> FileLayout:
        """The file with the catalogue's columns, of which only name, type and shape are known before the join."""
        self.join_key(file.names)
        columns = (planned_spec(name, self.table.columns[name], file.samples) for name in self.names(file.names))
        beside = tuple(columns)
        return file.model_copy(update={"tensors": (*file.tensors, *beside)}) if beside else file


UNJOINED = "catalog:"
"""Where a column's rows are that are in no file yet."""


def planned_spec(name: str, kind: Kind, samples: int) -> TensorSpec:
    """A column whose rows are in no file yet."""
    return TensorSpec(name, kind.dtype, (samples, *kind.row_shape), 0, tuple(range(len(kind.row_shape))), uri=UNJOINED)
