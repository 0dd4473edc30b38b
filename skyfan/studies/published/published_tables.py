"""The reference system's own tables, recomputed from its records by its own definitions.

Its definitions, kept here only to reproduce what it printed: CPU time is a mean over ranks without values
beyond 1.5 interquartile ranges; memory, throughput and bits are sums over ranks; S3 time is a sum, its other
S3 columns are means. Every number has two decimals. After the repetitions of a configuration comes their mean.
"""

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from skyfan import store
from skyfan.errors import BadInput
from skyfan.studies.published.published_runs import CPU, MEMORY, ReferenceRun

Cell = float | str | None
Row = dict[str, Cell]

STATS_KEYS = ("partition (MB)", "data (GB)", "run")
BATCH_KEYS = ("batch_size", "run")
S3_MEANS = ("s3_avg_time", "s3_min_time", "s3_max_time")


def without_outliers(values: Sequence[float]) -> np.ndarray:
    """Values within 1.5 interquartile ranges of the quartiles (linear interpolation), as float64 [≤ N]."""
    array = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(array, [25, 75])
    reach = 1.5 * (high - low)
    kept: np.ndarray = array[(array >= low - reach) & (array <= high + reach)]
    return kept


def measurements(run: ReferenceRun) -> Row:
    """The reference system's numbers of one run, not rounded."""
    row: Row = {
        CPU: float(without_outliers([record[CPU] for record in run.records]).mean()),
        MEMORY: math.fsum(record[MEMORY] for record in run.records),
        "throughput_bps": math.fsum(record["throughput_bps"] for record in run.records),
        "total_bits": run.bits,
        "s3_total_time": math.fsum(record.get("s3_total_time") or 0.0 for record in run.records),
    }
    for key in S3_MEANS:
        values = [record[key] for record in run.records if record.get(key) is not None]
        row[key] = math.fsum(values) / len(values) if values else None
    return row


def result_stats(runs: Iterable[ReferenceRun]) -> list[Row]:
    """`result_stats.csv`: one row per run, and the mean of each configuration."""
    chosen = [run for run in runs if run.partition_mb and not run.batch_size]
    return _with_means(chosen, lambda run: {"partition (MB)": run.partition_mb, "data (GB)": run.data_gb})


def batch_varying(runs: Iterable[ReferenceRun], partition_mb: int = 25) -> list[Row]:
    """`batch_varying_results.csv`: the same by batch size, for one partition size (the published one is 25)."""
    chosen = [run for run in runs if run.batch_size and run.partition_mb == partition_mb]
    rows = _with_means(chosen, lambda run: {"batch_size": run.batch_size})
    return [{key: cell for key, cell in row.items() if not key.startswith("s3_")} for row in rows]


def adjusted(
    runs: Iterable[ReferenceRun], durations: Callable[[ReferenceRun], tuple[float, float] | None]
) -> list[Row]:
    """`result_stats_adjusted.csv`: bits ÷ inference (map) seconds where both durations of a run are known.

    `durations` gives (total seconds, inference seconds) of a run, None where they are not known.
    """
    rows = []
    for run in runs:
        known = durations(run)
        if run.batch_size or not run.partition_mb or not known:
            continue
        total_s, inference_s = known
        keys = {"partition (MB)": run.partition_mb, "data (GB)": run.data_gb, "run": run.repetition}
        times = {"total_duration (s)": total_s, "inference_duration (s)": inference_s}
        rows.append({**keys, **measurements(run), "throughput_bps": run.bits / inference_s, **times})
    return [_rounded(row) for row in rows]


def _with_means(runs: Iterable[ReferenceRun], keys_of: Callable[[ReferenceRun], dict[str, Any]]) -> list[Row]:
    rows: list[Row] = []
    for _, group in itertools.groupby(runs, key=lambda run: tuple(keys_of(run).values())):
        members = list(group)
        measured = [measurements(run) for run in members]
        for run, values in zip(members, measured, strict=True):
            rows.append({**keys_of(run), "run": run.repetition, **values})
        means: Row = {}
        for key in measured[0]:
            cells = [cell for row in measured if isinstance(cell := row[key], float)]
            means[key] = math.fsum(cells) / len(cells) if cells else None
        rows.append({**keys_of(members[0]), "run": "mean", **means})
    return [_rounded(row) for row in rows]


def _rounded(row: Row) -> Row:
    return {key: round(cell, 2) if isinstance(cell, float) else cell for key, cell in row.items()}


def read_csv(uri: str) -> list[dict[str, str]]:
    """Rows of a CSV file, cells as printed.

    Raises:
        BadInput: the file is not UTF-8 text.
    """
    try:
        return list(csv.DictReader(io.StringIO(store.read(uri).decode())))
    except UnicodeDecodeError as error:
        raise BadInput(f"{uri} is not a CSV file in UTF-8.") from error
