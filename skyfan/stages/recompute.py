"""Computes samples of a finished run again, and compares them with what its files hold."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan.engines.check import TOLERANCE
from skyfan.engines.choose import ENGINES
from skyfan.errors import BadInput
from skyfan.models.locating import locate_models, models_digest
from skyfan.planning import Plan, PlanItem
from skyfan.records import RankRecord
from skyfan.runs.commit import RunLedger
from skyfan.runs.result_rows import list_rows
from skyfan.stages.infer import Control, infer
from skyfan.stages.messages import InferRequest, ModelFile
from skyfan.stages.model_cache import ModelCache

SAME_ENGINE_TOLERANCE = 2e-5
"""|y − y'| ≤ this · max(1, |y|) between machines and batch sizes with one engine; between engines: `TOLERANCE`."""
# Densities and probabilities at a fixed redshift change 1/σ times as fast as the redshifts of p(z) do, for σ of 0.01.
_OF_DENSITY, _STEEPNESS = ("odds", "pit", "cde_loss"), 100


@dataclass(frozen=True)
class Deviation:
    """A value of a column that is not what was computed again."""

    row: int
    sample: int
    column: str
    found: object
    expected: object
    relative: float
    """|found − expected| / max(1, |expected|); infinite where they cannot be compared."""

    @property
    def comparable(self) -> float:
        """The deviation as `tolerance` is meant: of redshifts, and of what is no steeper in them."""
        return self.relative / _STEEPNESS if self.column in _OF_DENSITY else self.relative


class Recomputer:
    """Runs the executor's own code again on chosen samples, into a temporary folder."""

    def __init__(self, plan: Plan, record: RankRecord) -> None:
        self._plan, self._record = plan, record
        # Few samples: threads would wait for each other longer than they compute.
        self._models = ModelCache(threads=1)
        self.run_engine = self.engine = record.engine

    def other_engine(self, item: PlanItem) -> pa.Table:
        """The rows of `item` by another engine than the run's; by the same where no other runs this model here."""
        for name in ENGINES[1:]:  # all but auto
            if name != self._record.engine and find_spec(name) is not None:
                try:
                    table = self._compute(item, name, "float32")
                except BadInput:
                    continue  # this engine cannot run this model
                self.engine = name
                return table
        return self.same_engine(item)

    def same_engine(self, item: PlanItem) -> pa.Table:
        """The rows of `item` as the run computed them."""
        self.engine = self._record.engine
        # Several models may run on several engines, as the job's option lets them.
        own = self._record.engine if self._record.engine in ENGINES else self._plan.job.engine
        return self._compute(item, own, self._plan.job.precision)

    @property
    def tolerance(self) -> float:
        """How far values of the last computation may be off, relative to max(1, |y|)."""
        is_reduced = self._record.precision != "float32"
        measured = (self._record.deviation or {}).get("max_abs", 0.0) if is_reduced else 0.0
        same = self.engine == self._record.engine
        return 2 * measured + (SAME_ENGINE_TOLERANCE if same else TOLERANCE)

    def _compute(self, item: PlanItem, engine: str, precision: str) -> pa.Table:
        plan = self._plan
        changes = {"engine": engine, "precision": precision, "device": "cpu", "collectives": False, "resume": True}
        half_width = plan.calibration.half_width if plan.calibration else None
        model = _own_files(plan).model_copy(update={"engine": engine, "half_width": half_width})
        with tempfile.TemporaryDirectory(prefix="skyfan-") as folder:
            job = plan.job.model_copy(update={**changes, "output": folder})
            infer(InferRequest(run_id=plan.run_id, job=job, model=model, item=item), self._models, Control())
            table, _ = RunLedger(folder, item.results_schema).read_predictions(item.rank, plan.run_id)
        return table


def _own_files(plan: Plan) -> ModelFile:
    """The model files that the job names, not what was converted of them."""
    models = locate_models(plan.job.models)
    digests = [models_digest([one]) for one in models]
    files = tuple(
        ModelFile(name=one.name, uri=one.uri, digest=digest, source_digest=digest, engine="")
        for one, digest in zip(models, digests, strict=True)
    )
    if len(files) == 1:
        return files[0]
    digest = plan.model_digest
    return ModelFile(uri="", digest=digest, source_digest=digest, engine="", parts=files)


def chosen_item(plan: Plan, rows: dict[int, NDArray[np.int64]]) -> PlanItem:
    """Work of one rank that is these rows of the plan's ranks (rank → row numbers), in the same order."""
    spans = []
    for rank, numbers in rows.items():
        starts = np.cumsum([0, *(span.samples for span in plan.ranks[rank])])
        for number in numbers:
            position = int(np.searchsorted(starts, number, side="right")) - 1
            span, offset = plan.ranks[rank][position], int(number - starts[position])
            place = {"start": span.start + offset, "stop": span.start + offset + 1}
            spans.append(span.model_copy(update={**place, "first_sample": span.first_sample + offset}))
    one = plan.model_copy(update={"ranks": (tuple(spans),), "world_size": 1})
    return one.item(0)


def deviations(found: pa.Table, expected: pa.Table) -> Iterator[Deviation]:
    """The largest deviation of every column in which the tables differ at all, by rows at the same place.

    Floating-point columns are compared as numbers, all others must be equal.
    """
    samples = expected["sample_index"].to_pylist()
    for name in dict.fromkeys([*expected.column_names, *found.column_names]):
        if name not in found.column_names or name not in expected.column_names:
            had, wanted = ("there" if name in one.column_names else "not there" for one in (found, expected))
            yield Deviation(0, samples[0], name, had, wanted, np.inf)
            continue
        had, wanted = found[name].combine_chunks(), expected[name].combine_chunks()
        relative = _relative(had, wanted)
        row = int(relative.argmax())
        if relative[row] > 0:
            yield Deviation(row, samples[row], name, had[row].as_py(), wanted[row].as_py(), float(relative[row]))


def _differs(found: pa.Array, expected: pa.Array) -> NDArray[np.float64]:
    """[N]: infinite where values differ, else 0; NaN equals NaN."""
    pairs = zip(found.to_pylist(), expected.to_pylist(), strict=True)
    return np.array([0.0 if repr(one) == repr(other) else np.inf for one, other in pairs])


def _relative(found: pa.Array, expected: pa.Array) -> NDArray[np.float64]:
    """[N]: the largest deviation of each row; infinite where one side is null, not finite, or of another type."""
    if found.type != expected.type or not _is_numeric(found.type):
        return _differs(found, expected)
    one, other = (list_rows(column).astype(np.float64) for column in (found, expected))
    with np.errstate(invalid="ignore"):
        relative = np.abs(one - other) / np.maximum(1, np.abs(other))
    relative[np.isnan(one) & np.isnan(other)] = 0
    relative[np.isnan(relative)] = np.inf
    worst: NDArray[np.float64] = relative.max(axis=1)
    return worst


def _is_numeric(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return bool(pa.types.is_floating(value))
