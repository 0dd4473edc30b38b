"""One rank's file against its plan and its own digests, read once and piece by piece."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.errors import RunConflict
from skyfan.planning import PlanItem
from skyfan.records import RankRecord
from skyfan.runs.predictions import open_predictions, readable
from skyfan.runs.predictions_writer import ColumnDigests

PIECE_ROWS = 8192


@dataclass(frozen=True)
class CheckedRank:
    """A rank whose rows are those of the plan.

    `differing`: columns whose values are not those of which the rank took the digest; `picked`: the rows asked for.
    `columns` is the number of digests that were compared.
    """

    record: RankRecord
    columns: int
    differing: tuple[str, ...]
    picked: pa.Table


def sample_numbers(item: PlanItem) -> NDArray[np.int64]:
    """The dataset's numbers of a rank's samples, in the order of its rows."""
    spans = ((span.first_sample, span.first_sample + span.samples) for span in item.spans)
    return np.concatenate([np.arange(start, stop, dtype=np.int64) for start, stop in spans])


def check_rank(uri: str, item: PlanItem, run_id: str, wanted: NDArray[np.int64]) -> CheckedRank:
    """Reads a rank's file; `wanted` are the row numbers to pick, in order.

    Raises:
        RunConflict: the file is damaged or another run's, or its rows are not those of the plan.
        LocationError: there is no such file.
    """
    file, record = open_predictions(uri, run_id)
    expected, digests = sample_numbers(item), ColumnDigests()
    if not file.metadata.num_rows == record.samples == len(expected):
        raise RunConflict(
            f"{uri} has {file.metadata.num_rows} rows and its record tells of {record.samples}; planned are "
            f"{len(expected)}."
        )
    row, picked = 0, [file.schema_arrow.empty_table()]
    with readable(uri):
        for batch in file.iter_batches(batch_size=PIECE_ROWS, use_threads=False):
            table, stop = pa.Table.from_batches([batch]), row + batch.num_rows
            digests.add(table)
            numbers = table["sample_index"].to_numpy()
            wrong = np.flatnonzero(numbers != expected[row:stop])
            if len(wrong):
                first = int(wrong[0])
                raise RunConflict(
                    f"{uri}, row {row + first}: sample_index is {numbers[first]}, planned is {expected[row + first]}."
                )
            picked.append(table.take(wanted[(wanted >= row) & (wanted < stop)] - row))
            row = stop
    told, actual = record.column_sha256, digests.hex()
    names = told.keys() | actual.keys() if told else set()  # ranks of earlier versions took no digests
    differing = tuple(sorted(name for name in names if told.get(name) != actual.get(name)))
    return CheckedRank(record, len(names), differing, pa.concat_tables(picked))
