"""Runs of the reference system: rank records by its own definitions, in the folder tree that it published.

A reference record's seconds are profiler seconds (nested operators count more than once) and its memory is the sum
of all allocations. Skyfan's records mean something else and are never mixed with these.
"""

import math
import re
from dataclasses import dataclass

from skyfan.errors import BadInput
from skyfan.runs.finding import RecordedRun, find_runs

CPU = "total_cpu_time (seconds)"
MEMORY = "total_cpu_memory (MB)"

# Folder names of the published tree: `result-partition-<MB>MB/<data>/[Batches/<batch size>/]<run>`.
_PUBLISHED_FOLDER = re.compile(
    r"(?:^|/)result-partition-(?P<mb>\d+)MB/(?P<data>[^/]+)/(?:Batches/(?P<batch>\d+)/)?(?:run )?(?P<run>\d+)$"
)
_WHOLE_SET_GB = 12.6


@dataclass(frozen=True, slots=True)
class ReferenceRun(RecordedRun):
    """One run of the reference system.

    `partition_mb`, `data_gb`, `batch_size` and `repetition` come from the folder's name; None where it lacks them.
    """

    partition_mb: int | None = None
    data_gb: float | None = None
    batch_size: int | None = None
    repetition: int | None = None

    @property
    def result_path(self) -> str:
        """Where the run wrote its records when it ran; "" where records disagree."""
        paths = {str(record.get("result_path", "")) for record in self.records}
        return paths.pop() if len(paths) == 1 else ""

    @property
    def bits(self) -> float:
        """Data bits of the present ranks: rate × time of each record."""
        return math.fsum(record["throughput_bps"] * record[CPU] for record in self.records)

    @property
    def samples(self) -> int:
        """Samples of the present ranks: rate × time of each record."""
        return sum(round(record["sample_persec"] * record[CPU]) for record in self.records)


def find_all_runs(folder: str) -> list[RecordedRun]:
    """Every run under `folder` (path or URI), of Skyfan (`RecordedRun`) and of the reference system (`ReferenceRun`).

    The order is by partition size, data size, batch size and repetition, then by name.

    Raises:
        BadInput: no run is there, or a run's records cannot be read.
    """
    found = [run if run.has_schema else _reference_run(run) for run in find_runs(folder)]
    return sorted(found, key=_order)


def reference_runs(runs: list[RecordedRun]) -> list[ReferenceRun]:
    """The reference system's runs among `runs`."""
    return [run for run in runs if isinstance(run, ReferenceRun)]


def _reference_run(run: RecordedRun) -> ReferenceRun:
    needed = (CPU, MEMORY, "throughput_bps", "sample_persec", "num_batches")
    for position, record in enumerate(run.records):
        missing = [key for key in needed if key not in record]
        if missing:
            raise BadInput(f"{run.name}, record {position}: no {missing[0]!r}; is this a rank record?")
    named = _PUBLISHED_FOLDER.search(run.name)
    if not named:
        return ReferenceRun(run.name, run.records)
    return ReferenceRun(
        name=run.name[named.start() :].lstrip("/"),
        records=run.records,
        partition_mb=int(named["mb"]),
        data_gb=_data_gb(named["data"]),
        batch_size=int(named["batch"]) if named["batch"] else None,
        repetition=int(named["run"]),
    )


def _data_gb(folder: str) -> float | None:
    if folder == "total":
        return _WHOLE_SET_GB
    number = re.search(r"(\d+(?:\.\d+)?)GB", folder)
    return float(number[1]) if number else None


def _order(run: RecordedRun) -> tuple[int, float, int, int, str]:
    if not isinstance(run, ReferenceRun):
        return 0, 0.0, 0, 0, run.name
    return run.partition_mb or 0, run.data_gb or 0.0, run.batch_size or 0, run.repetition or 0, run.name
