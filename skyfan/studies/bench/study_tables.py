"""The tables of a study, with the names that the published reports use.

A row is a setting. Each number is the median over its repetitions, with minimum and maximum where the reports print
them. Rates are bits or samples ÷ wall seconds of the run, memory is peak resident memory, cost is what Lambda would
bill. Where the reports print another quantity under the same heading, the heading names the quantity printed here.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from skyfan.cost import Prices, bill, rank_times, usage_of_ranks
from skyfan.errors import BadInput
from skyfan.studies.bench.measurements import Measurement
from skyfan.studies.bench.study import Setting
from skyfan.units import parse_size

Row = dict[str, Any]
Group = tuple[Setting, list[Measurement]]

_MB = 2**20
_CPU = "total_cpu_time (seconds)"
# Options for which the reports' experiment table has no column.
_OTHER_OPTIONS = {
    "on": "Target",
    "place": "Place",
    "layout": "Files",
    "repeat": "Repeat",
    "world_size": "Ranks",
    "workers": "Ranks at once",
}


def groups(measurements: Sequence[Measurement]) -> list[Group]:
    """The measurements of each setting together; settings in the order of their fields."""
    found: dict[str, Group] = {}
    for one in measurements:
        found.setdefault(one.setting.key, (one.setting, []))[1].append(one)
    return sorted(found.values(), key=lambda group: _order(group[0]))


def _order(setting: Setting) -> tuple[Any, ...]:
    size = setting.partition_size
    return (
        setting.on,
        setting.place,
        setting.layout,
        setting.repeat,
        0 if size == "file" else parse_size(size),
        setting.file_limit or 0,
        setting.workers or 0,
        setting.batch_size,
    )


def experiments(measurements: Sequence[Measurement]) -> list[Row]:
    """The experiment table: means over ranks by data prefix, file limit and every other varied option."""
    others = {
        name: heading
        for name, heading in _OTHER_OPTIONS.items()
        if len({getattr(one.setting, name) for one in measurements}) > 1
    }
    return [
        {
            "Experiment": number,
            "Data Prefix": setting.partition_size,
            "File Limit": setting.file_limit or "",
            "Batch Size": setting.batch_size,
            **{heading: getattr(setting, name) for name, heading in others.items()},
            "Avg CPU Time (s)": _median(members, lambda one: one.rank_mean(_CPU)),
            "Avg Peak Memory (MB)": _median(members, lambda one: one.rank_mean("peak_rss_bytes") / _MB),
            "Avg Exec Time per Batch (s)": _median(members, lambda one: one.batch_s),
            "Throughput by wall (MB/s)": _median(members, lambda one: one.bits_per_s / 8 / _MB),
            "Samples/s by wall": _median(members, lambda one: one.samples_per_s),
            "Wall (s)": _median(members, lambda one: one.wall_s),
            "Runs": len(members),
        }
        for number, (setting, members) in enumerate(groups(measurements), start=1)
    ]


def batch_sizes(measurements: Sequence[Measurement]) -> list[Row]:
    """Batch-size analysis: seconds per batch over all ranks of all repetitions."""
    rows = []
    for setting, members in groups(measurements):
        seconds = [record["execution_time (seconds/batch)"] for one in members for record in one.records]
        rows.append(
            {
                "dataset": f"{setting.partition_size}/{setting.repeat}×",
                "batch_size": setting.batch_size,
                "mean_execution_time": statistics.fmean(seconds),
                "min_execution_time": min(seconds),
                "max_execution_time": max(seconds),
                "throughput (Mbit/s)": _median(members, lambda one: one.bits_per_s / 1e6),
                "peak memory (GB)": _median(members, lambda one: one.peak_rss_bytes / 2**30),
            }
        )
    return rows


def input_partitions(measurements: Sequence[Measurement]) -> list[Row]:
    """Execution time against input partitions, with how many ranks ran at once."""
    return [
        {
            "Partition Size": setting.partition_size,
            "Execution Time (s/batch)": _median(members, lambda one: one.batch_s),
            "Wall (s)": _median(members, lambda one: one.wall_s),
            "Wall min (s)": min(one.wall_s for one in members),
            "Wall max (s)": max(one.wall_s for one in members),
            "Throughput (Gbit/s)": _median(members, lambda one: one.bits_per_s / 1e9),
            "Peak Memory (GB)": _median(members, lambda one: one.peak_rss_bytes / 2**30),
            "Ranks": len(members[0].records),
            "Num Concurrent Jobs": max(concurrent_ranks(one.records) for one in members),
        }
        for setting, members in groups(measurements)
    ]


def costs(measurements: Sequence[Measurement], prices: Prices) -> list[Row]:
    """Cost by partition size: what Lambda would bill in us-east-1 for the ranks as they were measured."""
    rows = []
    for setting, members in groups(measurements):
        usages = [usage_of_ranks(rank_times(one.records), attempts=one.summary.get("attempts")) for one in members]
        rows.append(
            {
                "Partition Size": setting.partition_size,
                "Data (GB)": members[0].bytes_read / 2**30,
                "Num Lambda Invocations": len(usages[0].invocations),
                "Total Duration (s)": statistics.median(
                    sum(invocation.billed_s for invocation in usage.invocations) for usage in usages
                ),
                "Configured Memory (GB)": usages[0].memory_mb / 1024,
                "Cost ($)": statistics.median(bill(usage, prices).total_usd for usage in usages),
            }
        )
    return rows


def data_access(measurements: Sequence[Measurement]) -> list[Row]:
    """Seconds of reading (means over ranks) and requests (of all ranks) by the way the data were reached."""
    return [
        {
            "Place": setting.place,
            "Files": setting.layout,
            "Wall (s)": _median(members, lambda one: one.wall_s),
            "Reading (s)": _median(members, lambda one: one.rank_mean("read_s")),
            "Compute waited (s)": _median(members, lambda one: one.rank_mean("wait_s")),
            "Read rate of a rank (MB/s)": _median(members, _read_rate_mb),
            "Requests": round(_median(members, lambda one: sum(record["s3_num_requests"] for record in one.records))),
        }
        for setting, members in groups(measurements)
    ]


def _read_rate_mb(one: Measurement) -> float:
    read_s = sum(float(record["read_s"]) for record in one.records)
    return one.bytes_read / _MB / max(read_s, 1e-9)


def scaling(measurements: Sequence[Measurement]) -> list[Row]:
    """Wall time against ranks at once; efficiency against the smallest number measured."""
    rows: list[Row] = []
    first: tuple[int, float] | None = None
    for setting, members in groups(measurements):
        workers, wall_s = setting.workers or 1, _median(members, lambda one: one.wall_s)
        first = first or (workers, wall_s)
        speedup = first[1] / wall_s
        rows.append(
            {
                "Ranks at once": workers,
                "Wall (s)": wall_s,
                "Speed-up": speedup,
                "Efficiency": speedup * first[0] / workers,
                "Samples/s": _median(members, lambda one: one.samples_per_s),
                "Launch skew (s)": _median(members, lambda one: launch_skew_s(one.records)),
            }
        )
    return rows


def local_against_distributed(measurements: Sequence[Measurement]) -> tuple[list[Row], str]:
    """One process against the fan-out with their ratio, and a sentence that explains the result.

    Raises:
        BadInput: the measurements are not of one process and one other target.
    """
    by_target: dict[str, list[Measurement]] = {}
    for one in measurements:
        by_target.setdefault(one.setting.on, []).append(one)
    others = [target for target in by_target if target != "process"]
    if "process" not in by_target or len(others) != 1:
        raise BadInput(f"this table compares 'process' with one other target; the study has {sorted(by_target)}.")
    local, fanned = by_target["process"], by_target[others[0]]
    metrics: dict[str, Callable[[Measurement], float]] = {
        "Execution Time/Batch (s)": lambda one: one.batch_s,
        "Wall (s)": lambda one: one.wall_s,
        "Throughput (Mbit/s)": lambda one: one.bits_per_s / 1e6,
        "CPU Time, all ranks (s)": lambda one: sum(record[_CPU] for record in one.records),
        "Peak Memory of a rank (MB)": lambda one: one.peak_rss_bytes / _MB,
        "Samples/s": lambda one: one.samples_per_s,
    }
    rows = []
    for name, metric in metrics.items():
        alone, together = _median(local, metric), _median(fanned, metric)
        ratio = together / alone if alone else None
        rows.append({"Metric": name, "process": alone, others[0]: together, "ratio": ratio})
    return rows, _meaning(_median(local, metrics["Wall (s)"]), _median(fanned, metrics["Wall (s)"]), others[0], fanned)


def _meaning(local_s: float, fanned_s: float, target: str, fanned: Sequence[Measurement]) -> str:
    concurrent = max(concurrent_ranks(one.records) for one in fanned)
    facts = f"The fan-out ({target}, {concurrent} ranks at once) took {fanned_s:.1f} s, one process {local_s:.1f} s: "
    if fanned_s < local_s:
        gain = local_s / fanned_s
        if gain > concurrent:
            return f"{facts}{gain:.2f} times faster, more than {concurrent} ranks explain: measure on a quiet machine."
        return f"{facts}{gain:.2f} times faster, {gain / concurrent:.0%} of what {concurrent} ranks could give."
    return f"{facts}it gained nothing, as its ranks share one machine; it pays where they do not."


def concurrent_ranks(records: Sequence[Mapping[str, Any]]) -> int:
    """The largest number of ranks that ran at one instant."""
    events = [(datetime.fromisoformat(record["started_at"]), 1) for record in records]
    events += [(datetime.fromisoformat(record["ended_at"]), -1) for record in records]
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most


def launch_skew_s(records: Sequence[Mapping[str, Any]]) -> float:
    """Last rank's start − first rank's start."""
    starts = [datetime.fromisoformat(record["started_at"]) for record in records]
    return (max(starts) - min(starts)).total_seconds()


def _median(members: Sequence[Measurement], metric: Callable[[Measurement], float]) -> float:
    return statistics.median(metric(one) for one in members)
