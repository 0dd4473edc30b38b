"""Who may write into a run's folder, and when a rank counts as done.

A rank that is retried, duplicated or computed by two starts of the same run commits once: the second conditional put
fails and the first one's record is the answer.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from skyfan import store
from skyfan.errors import Interrupted, LocationError, RunConflict, Transient
from skyfan.planning import Plan, has_same_files
from skyfan.records import RankRecord
from skyfan.runs import predictions
from skyfan.runs.extension import continued
from skyfan.runs.folder import RunFolder, json_bytes, parse_document
from skyfan.runs.predictions_writer import PredictionsWriter
from skyfan.units import counted

_PREDICTIONS = {1: re.compile(r"rank-(0|[1-9][0-9]*)\.parquet"), 2: re.compile(r"rank-([0-9]{7})\.parquet")}
"""Names of rank files by the results' schema."""
# How often a rank's file may vanish between two looks: each time is another start with --no-resume.
_COMMIT_ATTEMPTS = 5
# Removing objects waits on the network, not on the processor.
_REMOVERS = 16


class RunLedger(RunFolder):
    """A run's folder with its commit protocol: which run has claimed it, and which ranks are committed."""

    def claim(
        self, plan: Plan, *, resume: bool, result_row_bytes: int = 0, cancelled: threading.Event | None = None
    ) -> tuple[Plan, list[int]]:
        """Writes plan.json; returns the plan that counts, and the ranks that this very run has committed before.

        Another run's folder is refused and left as it is. The same run keeps its plan, and reads its files where
        they lie now. With `resume=False` it starts over: its earlier results are removed. Files that are new since
        become partitions for results of `result_row_bytes` a sample.

        Raises:
            RunConflict: the folder belongs to another run; the sentence says what differs.
            LocationError: it cannot be written, or its store does not keep writers apart.
            Interrupted: `cancelled` was set while results were removed.
        """
        store.require_create_only(self.uri)
        ledger = self
        try:
            store.put_new(self.plan_uri, _plan_bytes(plan))
        except store.AlreadyExists:
            earlier = self.read_plan()
            more = continued(earlier, plan, result_row_bytes)
            if more is None:
                raise RunConflict(
                    f"{self.uri} holds run {earlier.run_id} and this is run {plan.run_id}: "
                    f"{_difference(earlier, plan)}. Choose another --output; nothing was written."
                ) from None
            plan = self._extended(earlier, more, plan, result_row_bytes)
            ledger = replace(self, results_schema=plan.results_schema)
            if plan is not earlier:
                store.put(self.plan_uri, _plan_bytes(plan))
            if not resume:
                ledger.remove_results(plan, cancelled or threading.Event())
        return plan, ledger.committed_of(plan)

    def _extended(self, earlier: Plan, more: Plan, plan: Plan, result_row_bytes: int) -> Plan:
        """The plan `more`, with files that are new claimed as the next generation by a create-only put.

        Raises:
            RunConflict: there are such files, and the job does not say to extend the run.
        """
        added = len(more.files) - len(earlier.files)
        if not added:
            return more
        if not plan.job.extend:
            raise RunConflict(
                f"{self.uri} holds run {earlier.run_id} of {counted(len(earlier.files), 'file')}, and "
                f"{plan.job.dataset} has {counted(added, 'file')} more: add --extend to predict only what is new, into "
                "the same run, or choose another --output; nothing was written."
            )
        uri = self.generation_uri(len(more.generations))
        try:
            store.put_new(uri, _plan_bytes(more))
        except store.AlreadyExists:
            # Another start, or one that was killed before it wrote plan.json; the dataset may have grown again since.
            found = parse_document(uri, store.read(uri), Plan)
            again = continued(found, plan, result_row_bytes)
            if again is None:
                raise RunConflict(
                    f"{uri} was planned with other files than {plan.job.dataset} has; choose another --output."
                ) from None
            return self._extended(found, again, plan, result_row_bytes)
        return more

    def committed_of(self, plan: Plan) -> list[int]:
        """Ranks of the plan whose predictions are there, in order."""
        return sorted(set(plan.working_ranks).intersection(self.committed_ranks()))

    def remove_results(self, plan: Plan, cancelled: threading.Event) -> None:
        """Removes results of this run's own, by name: whatever else lies in the folder is somebody's.

        Raises:
            Interrupted: `cancelled` was set. The rest stays: ranks of the next start may commit by those names.
        """

        def remove(uri: str) -> None:
            if cancelled.is_set():
                raise Interrupted(f"{self.uri}: removing earlier results was stopped; those that are left count.")
            store.delete(uri)

        results = [self.summary_uri, self.combined_uri, self.report_uri]
        for rank in self.committed_of(plan):
            results += [self.predictions_uri(rank), self.record_uri(rank)]
        with ThreadPoolExecutor(_REMOVERS) as removers:
            list(removers.map(remove, results))

    def committed_ranks(self) -> Iterator[int]:
        """Ranks whose predictions are there, in no particular order; copies in folders below do not count.

        Raises:
            RunConflict: a rank's file was emptied.
        """
        folder, names = store.canonical(store.join(self.uri, "predictions")), _PREDICTIONS[self.results_schema]
        for entry in store.list(folder):
            if found := names.fullmatch(entry.uri.removeprefix(f"{folder}/")):
                predictions.check_size(entry)
                yield int(found[1])

    def commit(self, writer: PredictionsWriter, record: RankRecord) -> RankRecord:
        """Writes the rank's Parquet file once; returns the record that counts, ours or an earlier one's.

        Raises:
            Transient: the file was removed again and again; two starts with `--no-resume` may do this.
        """
        content = memoryview(writer.finished(record))
        uri = self.predictions_uri(record.rank)
        for _ in range(_COMMIT_ATTEMPTS):
            try:
                store.put_new(uri, content)
            except store.AlreadyExists:
                # None: a second start with --no-resume removed that file meanwhile, so that ours is written.
                if earlier := self.committed_record(record.rank, record.run_id):
                    return self.reconcile_record(earlier)
            else:
                self.write_record(record)
                return record
        raise Transient(f"{uri} was there and gone again {_COMMIT_ATTEMPTS} times; are two runs starting over at once?")

    def committed_record(self, rank: int, run_id: str) -> RankRecord | None:
        """The record of a rank that is committed; None where it is not, or not any more."""
        uri = self.predictions_uri(rank)
        if not store.exists(uri):
            return None
        try:
            return self.read_record(rank, run_id)
        except LocationError:
            if store.exists(uri):
                raise
            return None

    def write_record(self, record: RankRecord) -> None:
        """Writes <rank>.json, which is derived and may be written again."""
        store.put(self.record_uri(record.rank), json_bytes(record.to_json_dict()))

    def reconcile_record(self, record: RankRecord) -> RankRecord:
        """The footer's record, with how its collectives ended if <rank>.json has that; writes that file otherwise."""
        with suppress(LocationError, ValidationError):
            found = RankRecord.model_validate_json(store.read(self.record_uri(record.rank)))
            if found.model_copy(update={"collectives": record.collectives}) == record:
                return found
        self.write_record(record)
        return record

    def read_record(self, rank: int, run_id: str) -> RankRecord:
        """The record in the rank's Parquet footer, read without the predictions."""
        return predictions.read_record(self.predictions_uri(rank), run_id)

    def open_predictions(self, rank: int, run_id: str) -> pq.ParquetFile:
        """The rank's file, to be read in pieces.

        Raises:
            RunConflict: it is damaged, or another run's.
        """
        return predictions.open_predictions(self.predictions_uri(rank), run_id)[0]

    @contextmanager
    def unless_removed(self, rank: int) -> Iterator[None]:
        """Leaves a rank out whose file was removed since it was listed, by a second start with --no-resume."""
        try:
            yield
        except LocationError:
            if store.exists(self.predictions_uri(rank)):
                raise

    def read_pieces(self, rank: int, run_id: str, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The rank's `columns`, at most `rows` at a time.

        Raises:
            RunConflict: it is damaged, or another run's.
        """
        file = self.open_predictions(rank, run_id)
        with predictions.readable(self.predictions_uri(rank)):
            yield from file.iter_batches(rows, columns=list(columns), use_threads=False)

    def read_predictions(
        self, rank: int, run_id: str, columns: Sequence[str] | None = None
    ) -> tuple[pa.Table, RankRecord]:
        """The rank's table, with those of `columns` that are there (None: all), and its record."""
        return predictions.read_predictions(self.predictions_uri(rank), run_id, columns)


def _plan_bytes(plan: Plan) -> bytes:
    return plan.model_dump_json(by_alias=True).encode()


def _difference(earlier: Plan, plan: Plan) -> str:
    """What differs between two plans, in the user's words, the cause before what follows from it."""
    before, now = earlier.job, plan.job
    found = []
    if not has_same_files(earlier, plan):
        found.append(_changed_files(earlier, plan))
    if earlier.model_digest != plan.model_digest:
        named_alike = before.model == now.model
        found.append("the model file changed" if named_alike else f"model was {before.model}, is {now.model}")
    if _chosen_world_size(earlier) != _chosen_world_size(plan):
        found.append(f"world size was {earlier.world_size}, is {plan.world_size}")
    found += [
        f"{what} was {was}, is {given}"
        for what, was, given in (
            ("partition size", before.partition_size_bytes, now.partition_size_bytes),
            ("file limit", before.file_limit, now.file_limit),
            ("calibration dataset", before.calibrate, now.calibrate),
            ("catalogue", _catalog_of(earlier), _catalog_of(plan)),
            *_changed_options(earlier, plan),
        )
        if was != given
    ]
    return "; ".join(found) or f"world size was {earlier.world_size}, is {plan.world_size}"


def _changed_files(earlier: Plan, plan: Plan) -> str:
    if len(earlier.files) != len(plan.files):
        return f"the dataset had {counted(len(earlier.files), 'file')}, {plan.job.dataset} has {len(plan.files)}"
    if earlier.job.dataset != plan.job.dataset:
        return f"dataset was {earlier.job.dataset}, is {plan.job.dataset}, which holds other files"
    return "the dataset's files changed"


def _catalog_of(plan: Plan) -> str | None:
    """Where the catalogue lies, and the beginning of its identity."""
    return f"{plan.catalog.uri} ({plan.catalog.identity[:15]})" if plan.catalog else plan.job.catalog


def _chosen_world_size(plan: Plan) -> int | None:
    """None where there is one rank a partition: such a number follows from the data and the partition size."""
    return None if plan.world_size == plan.partitions else plan.world_size


def _changed_options(earlier: Plan, plan: Plan) -> Iterator[tuple[str, object, object]]:
    before, now = earlier.job.options.model_dump(), plan.job.options.model_dump()
    return ((name.replace("_", " "), before[name], now[name]) for name in now)
