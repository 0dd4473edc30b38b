"""A run whose rows are known, with an ID, text, a position, vectors and one sample without a prediction."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import skyfan
from skyfan.runs.commit import RunLedger
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.runs.result_rows import OutputColumn, ResultColumns, Rows
from tests.conftest import Sample
from tests.report.runs import make_plan, make_record

COLUMNS = ResultColumns(
    (OutputColumn("embedding", (3,), slice(1, 4)), OutputColumn("map", (2, 2), slice(4, 8))),
    ("objid", "name", "ra", "dec"),
    0,
)
SAMPLES = 101
RANDOM = np.random.default_rng(5)
RA = RANDOM.random(SAMPLES) * 360
DEC = np.degrees(np.arcsin(RANDOM.random(SAMPLES) * 2 - 1))
IDS = np.arange(SAMPLES, dtype=np.uint64) + np.uint64(2**63 - 50)
OUTPUTS = RANDOM.random((SAMPLES, 8)).astype(np.float32)
OUTPUTS[7] = np.nan
MISSING = np.full(SAMPLES, None, np.object_)
MISSING[7] = "NaN in x"
NAMES = np.array([f"é{number}" if number % 10 == 0 else f"galaxy {number}" for number in range(SAMPLES)], np.object_)


def make_run(
    folder: Path,
    sample: Sample,
    columns: ResultColumns = COLUMNS,
    more: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> skyfan.Run:
    """A run of nine ranks in `folder`, with `more` kept columns; nothing is computed, and it is not aggregated."""
    plan = make_plan(sample.path)
    plan = plan.model_copy(update={"job": plan.job.model_copy(update={"id": "objid"})})
    ledger = RunLedger(str(folder / "run"))
    ledger.claim(plan, resume=True)
    for item in plan.items():
        rows = slice(item.spans[0].start, item.spans[-1].stop)
        kept = {"objid": IDS, "name": NAMES, "ra": RA, "dec": DEC, **more}
        kept = {name: values[rows] for name, values in kept.items()}
        z_spec = np.full(item.samples, 0.5, np.float32)
        with PredictionsWriter() as writer:
            found = Rows(np.arange(rows.start, rows.stop), OUTPUTS[rows], MISSING[rows], z_spec, kept)
            writer.write(found.to_table(columns))
            ledger.commit(writer, make_record(item.rank, samples=item.samples))
    return skyfan.open_run(ledger.uri)
