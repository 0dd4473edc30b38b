"""Wall times and numbers of worlds that were published beside the records.

Two tables exist: `total_execution_time.csv` (wall time and worlds of the runs of 2024) and
`state_machine_logs.csv` (wall and map time of the runs of 2025, whose records have the result path
`…/12GB/<name>/<run>`). A run's records are timed by the table that its own result path points to.
"""

import dataclasses
import math
import re
import statistics
from collections.abc import Mapping, Sequence

from skyfan import store
from skyfan.errors import BadInput
from skyfan.partitioning import samples_per_partition
from skyfan.studies.billing.lambda_logs import parse_report
from skyfan.studies.published.published_runs import ReferenceRun
from skyfan.studies.published.published_tables import read_csv

# Image [5, 32, 32], magnitudes [5] and redshift of a sample of the published data set, each float32.
SAMPLE_BYTES = 4 * (5 * 32 * 32 + 5 + 1)
_LOGGED = re.compile(r"/12GB/(?P<name>[^/]+)/(?P<run>\d+)$")
_PREFIX = re.compile(r"'DATA_PREFIX': '(\d+)MB'")
_NO_BATCHES = "False"


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """Published times of a run: wall seconds from request to result, and the map's seconds where they are known."""

    wall_s: float
    map_s: float | None
    worlds: int | None
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class LambdaBilling:
    """Memory and billed seconds in the REPORT lines of the reference system's executor, by partition size in MB."""

    memory_mb: int
    billed_s: Mapping[int, Sequence[float]]

    @property
    def seconds_per_mb(self) -> float:
        """Billed seconds per MB of partition: the median over all lines."""
        return statistics.median(s / mb for mb, times in self.billed_s.items() for s in times)


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """All published times under one folder; empty where nothing was published."""

    by_size: Mapping[tuple[int, float, int], Timed]
    by_name: Mapping[tuple[int, str, int], Timed]
    billing: LambdaBilling | None

    def of(self, run: ReferenceRun) -> Timed | None:
        """The times of this run, None where none were published."""
        if run.partition_mb is None or run.batch_size or run.repetition is None:
            return None
        logged = _LOGGED.search(run.result_path)
        if logged:
            return self.by_name.get((run.partition_mb, logged["name"], int(logged["run"])))
        return self.by_size.get((run.partition_mb, run.data_gb or 0.0, run.repetition))

    def worlds(self, run: ReferenceRun) -> int | None:
        """The published number of worlds for the run's data and partition size."""
        if run.partition_mb is None or run.batch_size:
            return None
        sizes = {(mb, gb): timed.worlds for (mb, gb, _), timed in self.by_size.items()}
        return sizes.get((run.partition_mb, run.data_gb or 0.0))

    def durations(self, run: ReferenceRun) -> tuple[float, float] | None:
        """(wall, map) seconds where both are known."""
        timed = self.of(run)
        return (timed.wall_s, timed.map_s) if timed and timed.map_s is not None else None


def planned_ranks(partition_mb: int, data_gb: float) -> int:
    """Ranks that the reference system starts for `data_gb` GB of data: one per partition file.

    Agrees with every `num_worlds` it published (41 for 1 GB by 25 MB, 130 for 12.6 GB by 100 MB).
    """
    return math.ceil(data_gb * 1024 / partition_mb)


def samples_per_file(partition_mb: int) -> int:
    """Samples of a published partition file of this size: 5,113 for 100 MB."""
    return samples_per_partition(SAMPLE_BYTES, partition_mb * 2**20)


def timings_of(uris: Sequence[str]) -> Timings:
    """The published tables among these files.

    Raises:
        BadInput: a table has a cell that is not a number or a time.
    """
    files = {uri.rsplit("/", 1)[-1]: uri for uri in uris}
    by_size, by_name = {}, {}
    if uri := files.get("total_execution_time.csv"):
        by_size = _by_size(uri)
    if uri := files.get("state_machine_logs.csv"):
        by_name = _by_name(uri)
    billing = _billing(files["lambda_report_lines.txt"]) if "lambda_report_lines.txt" in files else None
    return Timings(by_size, by_name, billing)


def _by_size(uri: str) -> dict[tuple[int, float, int], Timed]:
    times = {}
    for line, row in enumerate(read_csv(uri), start=2):
        try:
            key = (int(row["partition(MB)"]), float(row["data(GB)"]), int(row["run"]))
            timed = Timed(_clock_s(row["duration"]), None, int(float(row["num_worlds"])), "total_execution_time.csv")
        except (KeyError, ValueError) as error:
            raise BadInput(f"{uri}, line {line}: {error}.") from error
        times[key] = timed
    return times


def _by_name(uri: str) -> dict[tuple[int, str, int], Timed]:
    times = {}
    for line, row in enumerate(read_csv(uri), start=2):
        try:
            if row["batch_varying"] != _NO_BATCHES:
                continue
            key = (int(row["partition (MB)"].removesuffix("MB")), row["data (GB)"], int(row["run"]))
            wall_s, map_s = float(row["total_duration (s)"]), float(row["inference_duration (s)"])
        except (KeyError, ValueError) as error:
            raise BadInput(f"{uri}, line {line}: {error}.") from error
        times[key] = Timed(wall_s, map_s, None, "state_machine_logs.csv")
    return times


def _clock_s(text: str) -> float:
    """`"01:02.34"` → 62.34."""
    minutes, seconds = text.split(":")
    return 60 * int(minutes) + float(seconds)


def _billing(uri: str) -> LambdaBilling | None:
    """Pairs each REPORT line with the partition size of the request logged before it."""
    billed: dict[int, list[float]] = {}
    memory_mb, partition_mb = 0, None
    for line in store.read(uri).decode().splitlines():
        if prefix := _PREFIX.search(line):
            partition_mb = int(prefix[1])
        elif (report := parse_report(line)) and partition_mb:
            billed.setdefault(partition_mb, []).append(report.billed_s)
            memory_mb = report.memory_mb
    return LambdaBilling(memory_mb, billed) if billed else None
