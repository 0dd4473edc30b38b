"""What a run's results hold of a few samples: their IDs, positions and p(z)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skyfan.planning import Plan
from skyfan.pz_form import PzForm
from skyfan.runs.commit import RunLedger
from skyfan.runs.result_rows import pz_columns
from skyfan.science.pz import distributions

CURVE_POINTS = 120


@dataclass(frozen=True)
class ShownRow:
    """Values of one row by column; `curve` is p(z) as redshifts and densities, where there is one."""

    values: dict[str, Any] = field(default_factory=dict)
    curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


def shown_rows(folder: RunLedger, plan: Plan, indices: Sequence[int], names: Sequence[str]) -> dict[int, ShownRow]:
    """The rows of these samples by index, with the columns `names` where there are any; read from their ranks alone."""
    wanted: dict[int, list[int]] = {}
    for index in indices:
        if (rank := _rank_of(plan, index)) is not None:
            wanted.setdefault(rank, []).append(index)
    found: dict[int, ShownRow] = {}
    for rank, of_rank in wanted.items():
        with folder.unless_removed(rank):
            file = folder.open_predictions(rank, plan.run_id)
            form, parts = pz_columns(file.schema_arrow)
            columns = ["sample_index", *(name for name in names if name in file.schema_arrow.names), *parts]
            for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
                rows = pa.Table.from_batches([batch])
                chosen = rows.filter(pc.is_in(rows["sample_index"], pa.array(of_rank)))
                for row in chosen.to_pylist():
                    values = {name: row[name] for name in columns[1:] if name in names}
                    found[row["sample_index"]] = ShownRow(values, _curve(form, [row[part] for part in parts]))
    return found


def _rank_of(plan: Plan, index: int) -> int | None:
    for rank, spans in enumerate(plan.ranks):
        if any(span.first_sample <= index < span.first_sample + span.samples for span in spans):
            return rank
    return None


def _curve(
    form: PzForm | None, parts: Sequence[list[float] | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Where nearly all of the probability lies."""
    if form is None or any(part is None for part in parts):
        return None
    pz = distributions(form, tuple(np.array([part], np.float64) for part in parts))
    low, high = float(pz.quantile(0.001)[0]), float(pz.quantile(0.999)[0])
    z = np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), CURVE_POINTS)
    repeated = distributions(form, tuple(np.repeat(np.array([part], np.float64), len(z), axis=0) for part in parts))
    return z, repeated.density(z)
