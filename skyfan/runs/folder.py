"""The place of one run: what lies where, who may write it, and when a rank counts as done.

    <output>/plan.json                         the plan; written once, claims the place
    <output>/items.jsonl, items.json           the same work as items for a Distributed Map
    <output>/model/<sha256>.safetensors        the model of a Distributed Map's ranks, where it had to be converted
    <output>/predictions/rank-<rank>.parquet   written once: this put is the rank's commit
    <output>/<rank>.json                       the rank record, derived from the Parquet footer; with --collectives
                                               it also has what was learned from other ranks after the commit
    <output>/comm/                             messages of ranks that meet here; gone when the last one left
    <output>/combined_data.json                all rank records
    <output>/summary.json, report.html         the run

A rank that is retried, duplicated or computed by two starts of the same run commits once: the second
conditional put fails and the first one's record is the answer.
"""

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from skyfan import store
from skyfan.errors import LocationError, RunConflict
from skyfan.planning import Plan
from skyfan.records import RankRecord, Summary
from skyfan.rpc.messages import first_problem
from skyfan.science.metrics import delta_z

_RECORD_KEY = b"skyfan.rank_record"
_FOOTER_GUESS_BYTES = 64 * 2**10
_PREDICTIONS = re.compile(r"rank-(0|[1-9][0-9]*)\.parquet")
# Removing objects waits on the network, not on the processor.
_REMOVERS = 16

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class Predictions:
    """One rank's answers, row by row in dataset order.

    `outputs` has shape [N, width] float32, NaN where a sample has no prediction; `z_column` is the column of
    `outputs` that holds redshift, if one does; `z_spec` has shape [N], NaN where not known.
    """

    sample_index: NDArray[np.int64]
    outputs: NDArray[np.float32]
    z_column: int | None
    z_spec: NDArray[np.float32] | None

    def to_table(self) -> pa.Table:
        """`sample_index`, then `z_pred`, `z_spec`, `delta_z` where known, then outputs that are not redshift."""
        columns: dict[str, pa.Array] = {"sample_index": pa.array(self.sample_index)}
        if self.z_column is not None:
            z_pred = self.outputs[:, self.z_column]
            columns["z_pred"] = _nullable(z_pred)
            if self.z_spec is not None:
                columns["z_spec"] = _nullable(self.z_spec)
                columns["delta_z"] = _nullable(delta_z(z_pred, self.z_spec).astype(np.float32))
        for column in range(self.outputs.shape[1]):
            if column != self.z_column:
                columns[f"output_{column}"] = _nullable(self.outputs[:, column])
        return pa.table(columns)


class EncodedPredictions:
    """A rank's rows as Parquet, complete but for the footer: that takes the record, which tells how long this took."""

    def __init__(self, predictions: Predictions) -> None:
        table = predictions.to_table()
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finished(self, record: RankRecord) -> bytes:
        """The whole file; to be asked for once."""
        self._writer.add_key_value_metadata({_RECORD_KEY: json.dumps(record.to_json_dict()).encode()})
        self._writer.close()
        return self._sink.getvalue()


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


@dataclass(frozen=True)
class RunFolder:
    """The files of one run under `uri`."""

    uri: str

    @property
    def plan_uri(self) -> str:
        """plan.json."""
        return store.join(self.uri, "plan.json")

    @property
    def items_uri(self) -> str:
        """The plan's items, one JSON line a rank."""
        return store.join(self.uri, "items.jsonl")

    @property
    def map_items_uri(self) -> str:
        """What a Distributed Map's ItemReader reads: a JSON array of byte ranges of `items_uri`."""
        return store.join(self.uri, "items.json")

    @property
    def summary_uri(self) -> str:
        """summary.json."""
        return store.join(self.uri, "summary.json")

    @property
    def combined_uri(self) -> str:
        """combined_data.json."""
        return store.join(self.uri, "combined_data.json")

    @property
    def report_uri(self) -> str:
        """report.html."""
        return store.join(self.uri, "report.html")

    def model_uri(self, digest: str) -> str:
        """The model that was converted from the file of this SHA-256."""
        return store.join(self.uri, "model", f"{digest}.safetensors")

    def record_uri(self, rank: int) -> str:
        """<rank>.json."""
        return store.join(self.uri, f"{rank}.json")

    def predictions_uri(self, rank: int) -> str:
        """The rank's Parquet file."""
        return store.join(self.uri, "predictions", f"rank-{rank}.parquet")

    def claim(self, plan: Plan, *, resume: bool) -> list[int]:
        """Writes plan.json and returns the ranks that this very run has committed before.

        Another run's place is refused and left as it is. With `resume=False` the same run starts over: its
        earlier results are removed.
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

    def read_plan(self) -> Plan:
        """The plan of this place; LocationError where there is none."""
        try:
            content = store.read(self.plan_uri)
        except LocationError as error:
            raise LocationError(f"{self.uri} holds no run (no plan.json): {error}") from error
        return _parse(self.plan_uri, content, Plan)

    def read_summary(self) -> Summary | None:
        """The summary of this place; None where none was written."""
        if not store.exists(self.summary_uri):
            return None
        return _parse(self.summary_uri, store.read(self.summary_uri), Summary)

    def committed_ranks(self) -> Iterator[int]:
        """Ranks whose predictions are there, in no particular order; copies in folders below do not count."""
        folder = store.canonical(store.join(self.uri, "predictions"))
        for entry in store.list(folder):
            if found := _PREDICTIONS.fullmatch(entry.uri.removeprefix(f"{folder}/")):
                yield int(found[1])

    def commit(self, predictions: EncodedPredictions, record: RankRecord) -> RankRecord:
        """Writes the rank's Parquet file once; returns the record that counts, ours or an earlier one's."""
        content = predictions.finished(record)
        counts: RankRecord | None = None
        while counts is None:
            try:
                store.put_new(self.predictions_uri(record.rank), content)
                counts = record
            except store.AlreadyExists:
                # None: a second start with --no-resume removed that file meanwhile, so that ours has its place.
                counts = self.committed_record(record.rank, record.run_id)
        if counts is not record:
            return self.settle(counts)
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
        store.put(self.record_uri(record.rank), _json_bytes(record.to_json_dict()))

    def settle(self, record: RankRecord) -> RankRecord:
        """The footer's record, with how its collectives ended if <rank>.json says so; writes that file otherwise."""
        with suppress(LocationError, ValidationError):
            found = RankRecord.model_validate_json(store.read(self.record_uri(record.rank)))
            if found.model_copy(update={"collectives": record.collectives}) == record:
                return found
        self.write_record(record)
        return record

    def read_record(self, rank: int, run_id: str) -> RankRecord:
        """The record in the rank's Parquet footer, read without the predictions."""
        uri = self.predictions_uri(rank)
        size_bytes = store.head(uri).size_bytes
        tail = store.read_range(uri, max(0, size_bytes - _FOOTER_GUESS_BYTES), size_bytes)
        footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
        if footer_bytes > len(tail):
            tail = store.read_range(uri, size_bytes - footer_bytes, size_bytes)
        with _readable(uri):
            metadata = pq.read_metadata(io.BytesIO(tail)).metadata
        return _record_of(uri, metadata, run_id)

    def read_predictions(self, rank: int, run_id: str) -> tuple[pa.Table, RankRecord]:
        """The rank's table and record."""
        uri = self.predictions_uri(rank)
        content = store.read(uri)
        with _readable(uri):
            file = pq.ParquetFile(io.BytesIO(content))
            table = file.read()
        return table, _record_of(uri, file.metadata.metadata, run_id)


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise RunConflict(
            f"{uri} is damaged ({str(error).splitlines()[0]}); remove it, and the same command computes it again."
        ) from error


def _parse(uri: str, content: bytes, kind: type[B]) -> B:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise LocationError(
            f"{uri} is damaged or of another version of Skyfan ({first_problem(error)}); choose another --output."
        ) from error


def _record_of(uri: str, metadata: dict[bytes, bytes] | None, run_id: str) -> RankRecord:
    content = (metadata or {}).get(_RECORD_KEY)
    if content is None:
        raise RunConflict(f"{uri} was not written by Skyfan (its footer holds no rank record); move it away.")
    record = _parse(uri, content, RankRecord)
    if record.run_id != run_id:
        raise RunConflict(f"{uri} belongs to run {record.run_id}, not to {run_id}; move it away.")
    return record


def _difference(earlier: Plan, plan: Plan) -> str:
    """What differs between two plans, in the user's words."""
    found = [
        f"{what} was {before}, is {now}"
        for what, before, now in (
            ("dataset", earlier.dataset, plan.dataset),
            ("model", earlier.model, plan.model),
            ("partition size", earlier.partition_size_bytes, plan.partition_size_bytes),
            ("world size", earlier.world_size, plan.world_size),
            ("file limit", earlier.file_limit, plan.file_limit),
            *_changed_options(earlier, plan),
        )
        if before != now
    ]
    if not found and earlier.model_digest != plan.model_digest:
        found = ["the model file changed"]
    return "; ".join(found) or "the dataset's files changed"


def _changed_options(earlier: Plan, plan: Plan) -> Iterator[tuple[str, object, object]]:
    before, now = earlier.options.model_dump(), plan.options.model_dump()
    return ((name.replace("_", " "), before[name], now[name]) for name in now)


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def write_json(uri: str, value: object) -> None:
    """Writes indented JSON atomically."""
    store.put(uri, _json_bytes(value))
