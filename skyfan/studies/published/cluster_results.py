"""What the reference system published of clusters: Slurm arrays, and one node with a CPU or an A100.

Its `result_stats.csv` of Slurm sums the rates of jobs that did not run at the same time; samples over the wall time of
`total_execution_time.csv` are what the cluster did. `total.json` is of one process, which has one rate.
"""

import dataclasses
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from skyfan import store
from skyfan.errors import BadInput
from skyfan.studies.published.published_tables import read_csv
from skyfan.studies.published.timings import planned_ranks, samples_per_file

WALL_TIMES, RATES, ONE_NODE = "total_execution_time.csv", "result_stats.csv", "total.json"
_JOB = "job_id"


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterResult:
    """One configuration: `tasks` at once on `where`, and the median `wall_s` of its `runs`. Rates in samples/s."""

    where: str
    data_gb: float
    tasks: int
    runs: int
    samples: int
    wall_s: float
    published_samples_per_s: float | None
    samples_per_s: float

    @property
    def overstated(self) -> float | None:
        """Published over true rate."""
        published = self.published_samples_per_s
        return None if published is None else published / self.samples_per_s


def read_clusters(uris: Sequence[str]) -> tuple[list[ClusterResult], frozenset[str]]:
    """The results among these files, and which of the files are theirs.

    Raises:
        BadInput: a file has a cell that is not a number or a time.
    """
    found: list[ClusterResult] = []
    taken: set[str] = set()
    for uri in sorted(uris):
        folder, _, name = uri.rpartition("/")
        if name == ONE_NODE:
            found += _one_node(uri)
            taken.add(uri)
        elif name == WALL_TIMES and (rows := read_csv(uri)) and _JOB in rows[0]:
            rates = f"{folder}/{RATES}"
            found += _slurm(uri, rows, read_csv(rates) if rates in uris else [])
            taken |= {uri, rates}
    return found, frozenset(taken)


def _slurm(uri: str, rows: Sequence[dict[str, str]], rates: Sequence[dict[str, str]]) -> list[ClusterResult]:
    walls_s: defaultdict[tuple[float, int, int], list[float]] = defaultdict(list)
    try:
        published = {float(row["data (GB)"]): float(row["sample_persec"]) for row in rates if row["run"] == "mean"}
        for row in rows:
            key = float(row["data (GB)"]), int(row["partition(MB)"]), int(row["num_worlds"])
            walls_s[key].append(_clock_s(row["duration"]))
    except (KeyError, ValueError) as error:
        raise BadInput(f"{uri}: {error!r} in it or in {RATES} beside it; is this a published table?") from error
    found = []
    for (data_gb, partition_mb, tasks), times_s in sorted(walls_s.items()):
        samples = planned_ranks(partition_mb, data_gb) * samples_per_file(partition_mb)
        wall_s = statistics.median(times_s)
        rate = published.get(data_gb)
        found.append(ClusterResult("Slurm", data_gb, tasks, len(times_s), samples, wall_s, rate, samples / wall_s))
    return found


def _one_node(uri: str) -> list[ClusterResult]:
    """The smallest and the largest amount of data; those between were measured in the same way."""
    try:
        rows = sorted(json.loads(store.read(uri)), key=lambda row: float(row["GB_processed"]))
        return [_process(row) for row in (rows[:1] + rows[-1:] if len(rows) > 1 else rows)]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"{uri}: {error!r}; is this a published list of measurements?") from error


def _process(row: dict[str, Any]) -> ClusterResult:
    samples, wall_s = int(row["num_batches"]) * int(row["batch_size"]), float(row["total_execution_time (seconds)"])
    rate, where = float(row["sample_persec"][0]), f"one process, {row['device']}"
    return ClusterResult(where, float(row["GB_processed"]), 1, 1, samples, wall_s, rate, samples / wall_s)


def _clock_s(text: str) -> float:
    """`"0:12:23"` → 743."""
    hours, minutes, seconds = map(int, text.split(":"))
    return 3600.0 * hours + 60 * minutes + seconds
