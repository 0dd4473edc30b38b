"""Runs on disk or in S3: every `combined_data.json` under a place, with what its path and neighbours say of it.

Two kinds of records exist and are never mixed. "reference" records hold the predecessor's definitions
(profiler seconds, sum of allocations); "skyfan" records carry a `schema` and hold wall seconds, process CPU
seconds and resident memory.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from skyfan import store
from skyfan.errors import BadInput

RecordKind = Literal["reference", "skyfan"]
Record = Mapping[str, Any]

COMBINED = "combined_data.json"
CPU = "total_cpu_time (seconds)"
MEMORY = "total_cpu_memory (MB)"

# Folder names of the published tree: `result-partition-<MB>MB/<data>/[Batches/<batch size>/]<run>`.
_PLACE = re.compile(
    r"(?:^|/)result-partition-(?P<mb>\d+)MB/(?P<data>[^/]+)/(?:Batches/(?P<batch>\d+)/)?(?:run )?(?P<run>\d+)$"
)
_WHOLE_SET_GB = 12.6
# `list_objects_v2` answers 1,000 keys a page; the predecessor's collector read one page.
LISTING_PAGE = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run: its records, and what is known of it besides.

    `partition_mb`, `data_gb`, `batch_size` and `repetition` are from the folder's name and None where the name
    does not say. `summary` is our own `summary.json`.
    """

    name: str
    records: Sequence[Record]
    kind: RecordKind
    partition_mb: int | None = None
    data_gb: float | None = None
    batch_size: int | None = None
    repetition: int | None = None
    summary: Mapping[str, Any] | None = None

    @property
    def result_path(self) -> str:
        """Where the run wrote its records when it ran; "" where records disagree."""
        paths = {str(record.get("result_path", "")) for record in self.records}
        return paths.pop() if len(paths) == 1 else ""

    @property
    def bits(self) -> float:
        """Data bits of the ranks present: rate × time of each record, or bytes read of ours."""
        if self.kind == "skyfan":
            return 8.0 * math.fsum(record["bytes_read"] for record in self.records)
        return math.fsum(record["throughput_bps"] * record[CPU] for record in self.records)

    @property
    def samples(self) -> int:
        """Samples of the ranks present."""
        if self.kind == "skyfan":
            return sum(int(record["samples"]) for record in self.records)
        return sum(round(record["sample_persec"] * record[CPU]) for record in self.records)


def record_kind(records: Sequence[Record], where: str) -> RecordKind:
    """Which definitions the records follow.

    Raises:
        BadInput: records of both kinds, or records that are neither.
    """
    ours = [("schema" in record) for record in records]
    if all(ours):
        return "skyfan"
    if any(ours):
        raise BadInput(
            f"{where} mixes {sum(ours)} Skyfan records with {len(ours) - sum(ours)} of the reference system, whose "
            "times and memory mean something else; keep them in separate runs."
        )
    needed = (CPU, MEMORY, "throughput_bps", "sample_persec", "num_batches")
    for position, record in enumerate(records):
        missing = [key for key in needed if key not in record]
        if missing:
            raise BadInput(f"{where}, record {position}: no {missing[0]!r}; is this a rank record?")
    return "reference"


def find_runs(place: str) -> list[Run]:
    """Every run under `place` (any URI), in the order of their names; one for a run's own folder.

    Raises:
        BadInput: nothing there is a run, or a run's records cannot be read.
    """
    base = place.rstrip("/")
    uris = {info.uri for info in store.list(base)}
    found = [uri for uri in uris if uri.rsplit("/", 1)[-1] == COMBINED]
    if not found:
        raise BadInput(f"no {COMBINED} under {place}; give a run's folder or a folder of runs.")
    return sorted((_read_run(uri, uris) for uri in found), key=_order)


def _read_run(uri: str, uris: set[str]) -> Run:
    folder = uri.rsplit("/", 1)[0]
    records = _read_json(uri)
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise BadInput(f"{uri} is not a list of rank records.")
    beside = f"{folder}/summary.json"
    run = Run(
        name=folder,
        records=records,
        kind=record_kind(records, uri),
        summary=_read_json(beside) if beside in uris else None,
    )
    place = _PLACE.search(folder)
    if not place:
        return run
    return dataclasses.replace(
        run,
        name=folder[place.start() :].lstrip("/"),
        partition_mb=int(place["mb"]),
        data_gb=_data_gb(place["data"]),
        batch_size=int(place["batch"]) if place["batch"] else None,
        repetition=int(place["run"]),
    )


def _data_gb(folder: str) -> float | None:
    if folder == "total":
        return _WHOLE_SET_GB
    number = re.search(r"(\d+(?:\.\d+)?)GB", folder)
    return float(number[1]) if number else None


def _order(run: Run) -> tuple[int, float, int, int, str]:
    return (run.partition_mb or 0, run.data_gb or 0.0, run.batch_size or 0, run.repetition or 0, run.name)


def _read_json(uri: str) -> Any:
    try:
        return json.loads(store.read(uri))
    except ValueError as error:
        raise BadInput(f"{uri} is not JSON: {error}.") from error
