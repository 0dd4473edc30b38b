"""Who may write into a run's folder, and when a rank counts as done.

A rank that is retried, duplicated or computed by two starts of the same run commits once: the second conditional put
fails and the first one's record is the answer.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa
from pydantic import ValidationError

from skyfan import store
from skyfan.errors import LocationError, RunConflict
from skyfan.planning import Plan
from skyfan.records import RankRecord
from skyfan.runs import predictions
from skyfan.runs.folder import RunFolder, json_bytes
from skyfan.runs.predictions import EncodedPredictions

_PREDICTIONS = re.compile(r"rank-(0|[1-9][0-9]*)\.parquet")
# Removing objects waits on the network, not on the processor.
_REMOVERS = 16


class RunLedger(RunFolder):
    """A run's folder with its commit protocol: which run has claimed it, and which ranks are committed."""

    def claim(self, plan: Plan, *, resume: bool) -> list[int]:
        """Writes plan.json and returns the ranks that this very run has committed before.

        Another run's folder is refused and left as it is. With `resume=False` the same run starts over: its
        earlier results are removed.

        Raises:
            RunConflict: the folder belongs to another run; the sentence says what differs.
        """
        try:
            store.put_new(self.plan_uri, plan.model_dump_json(by_alias=True).encode())
        except store.AlreadyExists:
            earlier = self.read_plan()
            if earlier.run_id != plan.run_id:
                raise RunConflict(
                    f"{self.uri} holds run {earlier.run_id} and this is run {plan.run_id}: "
                    f"{_difference(earlier, plan)}. Choose another --output; nothing was written."
                ) from None
            if not resume:
                self._remove_results(plan)
        return self._committed_of(plan)

    def _committed_of(self, plan: Plan) -> list[int]:
        return sorted(set(plan.working_ranks).intersection(self.committed_ranks()))

    def _remove_results(self, plan: Plan) -> None:
        # Results of this run's own, by name: whatever else lies in the folder is somebody's.
        results = [self.summary_uri, self.combined_uri, self.report_uri]
        for rank in self._committed_of(plan):
            results += [self.predictions_uri(rank), self.record_uri(rank)]
        with ThreadPoolExecutor(_REMOVERS) as removers:
            list(removers.map(store.delete, results))

    def committed_ranks(self) -> Iterator[int]:
        """Ranks whose predictions are there, in no particular order; copies in folders below do not count."""
        folder = store.canonical(store.join(self.uri, "predictions"))
        for entry in store.list(folder):
            if found := _PREDICTIONS.fullmatch(entry.uri.removeprefix(f"{folder}/")):
                yield int(found[1])

    def commit(self, encoded: EncodedPredictions, record: RankRecord) -> RankRecord:
        """Writes the rank's Parquet file once; returns the record that counts, ours or an earlier one's."""
        content = encoded.finished(record)
        counts: RankRecord | None = None
        while counts is None:
            try:
                store.put_new(self.predictions_uri(record.rank), content)
                counts = record
            except store.AlreadyExists:
                # None: a second start with --no-resume removed that file meanwhile, so that ours has its place.
                counts = self.committed_record(record.rank, record.run_id)
        if counts is not record:
            return self.reconcile_record(counts)
        self.write_record(record)
        return record

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
        """The footer's record, with how its collectives ended if <rank>.json says so; writes that file otherwise."""
        with suppress(LocationError, ValidationError):
            found = RankRecord.model_validate_json(store.read(self.record_uri(record.rank)))
            if found.model_copy(update={"collectives": record.collectives}) == record:
                return found
        self.write_record(record)
        return record

    def read_record(self, rank: int, run_id: str) -> RankRecord:
        """The record in the rank's Parquet footer, read without the predictions."""
        return predictions.read_record(self.predictions_uri(rank), run_id)

    def read_predictions(self, rank: int, run_id: str) -> tuple[pa.Table, RankRecord]:
        """The rank's table and record."""
        return predictions.read_predictions(self.predictions_uri(rank), run_id)


def _difference(earlier: Plan, plan: Plan) -> str:
    """What differs between two plans, in the user's words."""
    found = [
        f"{what} was {before}, is {now}"
        for what, before, now in (
            ("dataset", earlier.job.dataset, plan.job.dataset),
            ("model", earlier.job.model, plan.job.model),
            ("partition size", earlier.job.partition_size, plan.job.partition_size),
            ("world size", earlier.world_size, plan.world_size),
            ("file limit", earlier.job.file_limit, plan.job.file_limit),
            *_changed_options(earlier, plan),
        )
        if before != now
    ]
    if not found and earlier.model_digest != plan.model_digest:
        found = ["the model file changed"]
    return "; ".join(found) or "the dataset's files changed"


def _changed_options(earlier: Plan, plan: Plan) -> Iterator[tuple[str, object, object]]:
    before, now = earlier.job.options.model_dump(), plan.job.options.model_dump()
    return ((name.replace("_", " "), before[name], now[name]) for name in now)
