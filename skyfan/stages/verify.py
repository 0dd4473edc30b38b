"""Checks a run's results against its plan, its digests and its model; what differs is named, nothing is written.

Every rank's file is read once: its rows, their numbers, and the digest of each column that the rank took while it
computed. Then some samples are computed again, where possible with another engine than the run's.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skyfan import store
from skyfan.errors import BadInput, LocationError, RunConflict, SkyfanError
from skyfan.models.converted import read_converted
from skyfan.models.loading import load_model
from skyfan.models.locating import locate_models, models_digest
from skyfan.planning import Plan
from skyfan.runs.commit import RunLedger
from skyfan.stages.recompute import Deviation, Recomputer, chosen_item, deviations
from skyfan.stages.verify_rank import CheckedRank, check_rank

DEFAULT_SAMPLES = 32
MAX_LISTED = 100
# Ranks whose digests differ: at most this many are computed again as a whole, so that the row can be named.
_LOCATED_RANKS = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file, and what it is. `missing`: the file of a rank is not there."""

    where: str
    what: str
    missing: bool = False


@dataclass
class Verification:
    """What was checked and what was found; `findings` holds the first hundred of `problems`.

    `engine` computed `samples` again, or `not_computed` tells why none; `run_engine` had computed them first.
    `largest_deviation` and `tolerance` are relative to max(1, |y|).
    """

    run_id: str
    ranks: int = 0
    rows: int = 0
    columns: int = 0
    samples: int = 0
    run_engine: str | None = None
    engine: str | None = None
    tolerance: float | None = None
    largest_deviation: float | None = None
    not_computed: str | None = None
    problems: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is wrong or missing."""
        return not self.problems

    @property
    def only_missing(self) -> bool:
        """Ranks are missing, and nothing else is wrong."""
        return bool(self.problems) and all(found.missing for found in self.findings)

    def add(self, where: str, what: str, *, missing: bool = False) -> None:
        """Notes a problem."""
        self.problems += 1
        if len(self.findings) < MAX_LISTED:
            self.findings.append(Finding(where, what.removeprefix(f"{where}, ").removeprefix(f"{where} "), missing))

    def to_json_dict(self) -> dict[str, Any]:
        """For `skyfan verify --json`."""
        return {"schema": "skyfan.verification/1", "ok": self.ok, **asdict(self)}


def verify_run(ledger: RunLedger, plan: Plan, *, samples: int = DEFAULT_SAMPLES, seed: int = 0) -> Verification:
    """Checks every rank's file, and computes `samples` random samples again.

    Raises:
        BadInput: `samples` or `seed` is negative.
    """
    if samples < 0 or seed < 0:
        raise BadInput("the number of samples and the seed must not be negative.")
    found = Verification(plan.run_id)
    _check_model(ledger, plan, found)
    try:
        present = ledger.committed_of(plan)
    except RunConflict as error:  # a rank's file was emptied
        found.add(ledger.uri, str(error))
        return found
    chosen = _chosen_rows(plan, present, samples, seed)
    checked: dict[int, CheckedRank] = {}
    there = frozenset(present)
    for rank in plan.working_ranks:
        uri = ledger.predictions_uri(rank)
        if rank not in there:
            found.add(uri, f"rank {rank} is missing", missing=True)
            continue
        try:
            checked[rank] = check_rank(uri, plan.item(rank), plan.run_id, chosen.get(rank, np.empty(0, np.int64)))
        except (RunConflict, LocationError) as error:
            found.add(uri, str(error))
    found.ranks, found.columns = len(checked), sum(one.columns for one in checked.values())
    found.rows = sum(one.record.samples for one in checked.values())
    _recompute(ledger, plan, checked, chosen, found)
    return found


def _check_model(ledger: RunLedger, plan: Plan, found: Verification) -> None:
    """The files that the job names, and those that ranks load where they were converted, hold the planned models."""
    digests = [plan.model_digest]
    try:
        models = locate_models(plan.job.models)
        if models_digest(models) != plan.model_digest:
            found.add(", ".join(one.uri for one in models), "the model is not the one of the run: its SHA-256 differs")
        else:
            digests = [models_digest([one]) for one in models]
    except BadInput as error:
        found.add(", ".join(plan.job.models), f"the model cannot be read: {error}")
    for digest in digests:
        _check_converted(ledger, digest, found)


def _check_converted(ledger: RunLedger, digest: str, found: Verification) -> None:
    """A checkpoint's conversion, or a program's chosen engine with its files: whole, and made of that model."""
    for uri, source_of in ((ledger.model_uri(digest), _checkpoint_source), (ledger.engine_uri(digest), _engine_source)):
        try:
            if source_of(uri) != digest:
                found.add(uri, "the converted model was made of another file")
        except LocationError:
            continue  # it was not converted in this way
        except BadInput as error:
            found.add(uri, f"the converted model is damaged: {error}")


def _checkpoint_source(uri: str) -> str | None:
    return load_model(uri).made_of


def _engine_source(uri: str) -> str:
    return read_converted(uri, store.read(uri)).choice.source_digest


def _chosen_rows(plan: Plan, present: list[int], count: int, seed: int) -> dict[int, NDArray[np.int64]]:
    """Rank → rows of its file, in order; all samples of the ranks that are there are equally likely."""
    if not present:
        return {}
    samples = plan.rank_samples
    sizes = [samples[rank] for rank in present]
    ends = np.cumsum(sizes)
    total = sum(sizes)
    rows = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    chosen: dict[int, list[int]] = {}
    for row in rows:
        position = int(np.searchsorted(ends, row, side="right"))
        chosen.setdefault(present[position], []).append(int(row) - int(ends[position]) + sizes[position])
    return {rank: np.array(numbers, np.int64) for rank, numbers in chosen.items()}


def _recompute(
    ledger: RunLedger,
    plan: Plan,
    checked: dict[int, CheckedRank],
    chosen: dict[int, NDArray[np.int64]],
    found: Verification,
) -> None:
    """Compares random samples with another engine's, and finds the rows of columns whose digests differ."""
    differing = {rank: one for rank, one in checked.items() if one.differing}
    if not checked:
        return
    first = next(iter(checked.values())).record
    recomputer = Recomputer(plan, first)
    try:
        for rank in list(differing)[:_LOCATED_RANKS]:
            _locate(ledger, plan, rank, differing[rank], recomputer, found)
        for rank in list(differing)[_LOCATED_RANKS:]:
            found.add(ledger.predictions_uri(rank), _digests_differ(differing[rank]))
        _compare_samples(
            ledger, plan, {r: rows for r, rows in chosen.items() if r in checked}, checked, recomputer, found
        )
    except SkyfanError as error:
        found.add(plan.job.dataset, f"samples could not be computed again: {error}")


def _locate(
    ledger: RunLedger, plan: Plan, rank: int, checked: CheckedRank, recomputer: Recomputer, found: Verification
) -> None:
    """Names the row that is furthest from what the run's own engine gives."""
    uri = ledger.predictions_uri(rank)
    held = ledger.read_predictions(rank, plan.run_id)[0]
    wrong = {one.column: one for one in deviations(held, recomputer.same_engine(plan.item(rank)))}
    for column in checked.differing:
        one = wrong.get(column)
        row = f"; {_sentence(one)}" if one else "; computed again, every row is the same"
        found.add(uri, f"the digest of {column} is not the one of its record{row}")


def _compare_samples(
    ledger: RunLedger,
    plan: Plan,
    chosen: dict[int, NDArray[np.int64]],
    checked: dict[int, CheckedRank],
    recomputer: Recomputer,
    found: Verification,
) -> None:
    if not chosen:
        return
    if plan.job.random_seed is not None:
        found.not_computed = "with --random-seed a row's numbers depend on where in its batch it is"
        return
    held = pa.concat_tables([checked[rank].picked.replace_schema_metadata(None) for rank in chosen])
    places = [(rank, int(row)) for rank, rows in chosen.items() for row in rows]
    again = recomputer.other_engine(chosen_item(plan, chosen))
    found.samples, found.engine, found.run_engine = len(places), recomputer.engine, recomputer.run_engine
    found.tolerance, found.largest_deviation = recomputer.tolerance, 0.0
    for one in deviations(held, again):
        if np.isfinite(one.comparable):
            found.largest_deviation = max(found.largest_deviation, one.comparable)
        if one.comparable > recomputer.tolerance:
            rank, row = places[one.row]
            if one.column not in checked[rank].differing:  # that was told already
                found.add(ledger.predictions_uri(rank), _sentence(one, row))


def _digests_differ(checked: CheckedRank) -> str:
    return f"the digests of {', '.join(checked.differing)} are not those of its record"


def _sentence(one: Deviation, row: int | None = None) -> str:
    had, wanted = (f"{value:.8g}" if isinstance(value, float) else f"{value}" for value in (one.found, one.expected))
    return (
        f"row {one.row if row is None else row} (sample {one.sample}): {one.column} is {had}, computed again {wanted}"
    )
