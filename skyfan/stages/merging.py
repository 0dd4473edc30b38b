"""What a run's ranks committed, folded together rank by rank: memory grows neither with rows nor with ranks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skyfan.planning import Plan
from skyfan.records import AnomaliesSummary, IdCounts, RankRecord
from skyfan.report.galaxies import MAX_CUTOUTS, SHOWN_COLUMNS, RedshiftSample, known_galaxies
from skyfan.runs.commit import RunLedger
from skyfan.runs.estimates import CLASS_COLUMNS
from skyfan.science.anomalies import MAX_WIDTH, Vectors, most_unusual
from skyfan.science.classification import ClassTally
from skyfan.science.medians import streamed_median
from skyfan.science.metrics import (
    NMAD_SCALE,
    ScienceMetrics,
    known_residuals,
    merge_sums,
    metrics_of_sums,
    science_sums,
)
from skyfan.science.quality import ScoreSums
from skyfan.stages.id_keys import id_keys
from skyfan.stages.trained_galaxies import trained_rows

READERS = 16
# Their residuals are held, 8 bytes each; of more labelled rows the files are read again for the median.
MAX_HELD_ROWS = 10_000_000
_EMBEDDING_ROWS = 1024


@dataclass(frozen=True)
class Merged:
    """What the ranks that are there committed: records in rank order, and what follows from all of their rows."""

    records: tuple[RankRecord, ...]
    science: ScienceMetrics | None
    redshifts: RedshiftSample
    ids: IdCounts | None
    scores: ScoreSums
    classes: ClassTally | None = None
    anomalies: AnomaliesSummary | None = None
    trained_samples: int = 0
    """Samples of known redshift that the run's model was trained on, see `trained_galaxies`."""


def merge(folder: RunLedger, plan: Plan, go_on: Callable[[], None] = lambda: None) -> Merged:
    """Reads every committed rank of the plan; what `go_on`, called after each of them, raises ends it.

    Raises:
        RunConflict: the file of such a rank is damaged, or another run wrote it.
    """
    records: list[RankRecord] = []
    sums, held, held_rows = science_sums(np.empty(0), np.empty(0)), [np.empty(0)], 0
    redshifts, scores = RedshiftSample(plan.samples), ScoreSums()
    trained_samples = 0
    classes = ClassTally(plan.job.classes) if plan.job.classes else None
    for table, record in _each_rank(folder, plan, (*SHOWN_COLUMNS, *CLASS_COLUMNS), folder.reconcile_record):
        go_on()
        records.append(record)
        redshifts.add(table)
        if classes:
            _tally(classes, table)
        if (galaxies := known_galaxies(table)) is not None:
            scores.add(galaxies)
            trained_samples += int(trained_rows(plan, galaxies.z_spec, galaxies.scores).sum())
        pair = _redshifts(table)
        if pair is None:
            continue
        sums = merge_sums(sums, science_sums(*pair))
        if held_rows <= MAX_HELD_ROWS:
            held.append(known_residuals(*pair))
            held_rows += len(held[-1])
        if held_rows > MAX_HELD_ROWS:
            held = []
    ids = _count_ids(folder, plan)
    science = metrics_of_sums(sums)
    if science is not None:
        science = replace(science, nmad=_nmad(held, lambda: _residuals(folder, plan)))
    anomalies = None if classes or len(redshifts.z_pred) else _anomalies(folder, plan, go_on)
    return Merged(tuple(records), science, redshifts, ids, scores, classes, anomalies, trained_samples)


def _tally(classes: ClassTally, table: pa.Table) -> None:
    rows = table.filter(table["class"].is_valid()) if "class" in table.column_names else table.slice(0, 0)
    if not len(rows):
        return
    names = pa.array(classes.names, pa.string())
    numbers = [
        pc.index_in(rows[name], names).fill_null(-1).to_numpy().astype(np.int64)
        if name in rows.column_names
        else np.full(len(rows), -1)
        for name in ("class", "true_class")
    ]
    classes.add(numbers[0], rows["confidence"].to_numpy(), numbers[1])


def _anomalies(folder: RunLedger, plan: Plan, go_on: Callable[[], None]) -> AnomaliesSummary | None:
    """The samples farthest from the others by the first output that can be an embedding; None without one."""
    name = _embedding(folder, plan)
    if name is None:
        return None

    width = folder.open_predictions(folder.committed_of(plan)[0], plan.run_id).schema_arrow.field(name).type.list_size

    def vectors() -> Iterator[Vectors]:
        for rank in folder.committed_of(plan):
            go_on()
            with folder.unless_removed(rank):
                # In pieces: as float64, a rank's embeddings have twice the size of its largest file.
                for piece in folder.read_pieces(rank, plan.run_id, ("sample_index", name), _EMBEDDING_ROWS):
                    rows = piece.filter(piece[name].is_valid())
                    yield rows["sample_index"].to_numpy(), rows[name].flatten().to_numpy().reshape(len(rows), width)

    found = most_unusual(vectors, width, MAX_CUTOUTS)
    return AnomaliesSummary(output=name, samples=tuple((one.index, one.distance) for one in found)) if found else None


def _embedding(folder: RunLedger, plan: Plan) -> str | None:
    ranks = folder.committed_of(plan)
    if not ranks:
        return None
    for field in folder.open_predictions(ranks[0], plan.run_id).schema_arrow:
        kind = field.type
        if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
            continue
        if field.name not in plan.files[0].names and 2 <= kind.list_size <= MAX_WIDTH:
            return str(field.name)
    return None


def _each_rank(
    folder: RunLedger, plan: Plan, columns: Sequence[str], reconciled: Callable[[RankRecord], RankRecord]
) -> Iterator[tuple[pa.Table, RankRecord]]:
    """The rows and the record of each committed rank, in order; a few ranks are read at once."""

    def read(rank: int) -> tuple[pa.Table, RankRecord] | None:
        found = None
        with folder.unless_removed(rank):
            found = folder.read_predictions(rank, plan.run_id, columns)
        return None if found is None else (found[0], reconciled(found[1]))

    with ThreadPoolExecutor(READERS) as readers:
        ranks = folder.committed_of(plan)
        for start in range(0, len(ranks), READERS):
            yield from filter(None, readers.map(read, ranks[start : start + READERS]))


def _redshifts(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """z_pred and z_spec [N], NaN where null; None where the results do not have both."""
    if not {"z_pred", "z_spec"} <= set(table.column_names):
        return None
    z_pred, z_spec = (table[name].to_numpy().astype(np.float64) for name in ("z_pred", "z_spec"))
    return z_pred, z_spec


def _residuals(folder: RunLedger, plan: Plan) -> Iterator[NDArray[np.float64]]:
    for table, _ in _each_rank(folder, plan, ("z_pred", "z_spec"), lambda record: record):
        if (pair := _redshifts(table)) is not None:
            yield known_residuals(*pair)


def _nmad(held: list[NDArray[np.float64]], again: Callable[[], Iterator[NDArray[np.float64]]]) -> float:
    """1.48 · median |Δz − median Δz| of the residuals that are held, or that the files give again."""
    if held:
        residual = np.concatenate(held)
        held.clear()
        residual -= np.median(residual)
        np.abs(residual, out=residual)
        return float(NMAD_SCALE * np.median(residual, overwrite_input=True))
    middle = streamed_median(again)
    return NMAD_SCALE * streamed_median(lambda: (np.abs(part - middle) for part in again()))


def _count_ids(folder: RunLedger, plan: Plan) -> IdCounts | None:
    """How many rows have an ID that an earlier row has, or none: exact, in passes of as many rows as are held."""
    column = plan.id_column
    if column is None:
        return None
    passes = -(-plan.samples // MAX_HELD_ROWS)
    duplicates = nulls = 0
    for number in range(passes):
        held = [np.empty(0, np.uint64)]
        for table, _ in _each_rank(folder, plan, (column,), lambda record: record):
            if column not in table.column_names:  # an input of the model, or a rank of an earlier version
                return None
            ids = table[column]
            nulls += ids.null_count if number == 0 else 0
            keys = id_keys(ids.drop_null().to_numpy())
            held.append(keys if passes == 1 else keys[keys % np.uint64(passes) == number])
        keys = np.concatenate(held)
        held.clear()
        keys.sort()
        duplicates += int((keys[1:] == keys[:-1]).sum())
    return IdCounts(column=column, duplicates=duplicates, nulls=nulls)
