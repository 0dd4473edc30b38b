"""The true numbers of a run beside the published ones: bits ÷ wall time, present of planned ranks, billed cost.

The seconds of the two kinds of records are never compared: a reference record holds profiler seconds, a Skyfan record
wall seconds.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from skyfan.aws_limits import S3_LISTING_PAGE
from skyfan.cost import Invocation, Prices, Usage, bill, pipeline_transitions, rank_times, usage_of_ranks
from skyfan.runs.finding import RecordedRun
from skyfan.studies.published.published_runs import ReferenceRun
from skyfan.studies.published.timings import Timings, planned_ranks


@dataclasses.dataclass(frozen=True, slots=True)
class Corrected:
    """One run by true definitions. Rates are in bits per second; None where the run did not record them."""

    run: str
    kind: str
    ranks_present: int
    ranks_planned: int | None
    planned_from: str
    samples: int
    bits: float
    wall_s: float | None
    map_s: float | None
    timed_from: str
    published_bps: float
    wall_bps: float | None
    map_bps: float | None
    samples_per_s_wall: float | None
    cost_usd: float | None
    cost_at_most_usd: float | None
    cost_basis: str
    flags: tuple[str, ...]

    @property
    def complete(self) -> bool | None:
        """Whether all planned ranks are present; None where their number is not known."""
        return None if self.ranks_planned is None else self.ranks_present >= self.ranks_planned

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "complete": self.complete}


def correct(run: RecordedRun, timings: Timings, prices: Prices, region: str = "us-east-1") -> Corrected:
    """The run by true definitions.

    Raises:
        BadInput: no prices for the region.
    """
    wall_s: float | None
    map_s: float | None
    cost_at_most_usd: float | None = None
    if isinstance(run, ReferenceRun):
        timed = timings.of(run)
        planned, planned_from = _planned(run, timings.worlds(run))
        wall_s, map_s, timed_from = (timed.wall_s, timed.map_s, timed.source) if timed else (None, None, "")
        cost_usd, cost_at_most_usd, cost_basis = _reference_cost(run, planned, wall_s, timings, prices, region)
    else:
        summary = run.summary or {}
        timing, done = summary.get("timing", {}), summary.get("completeness", {})
        planned = done.get("ranks_planned") or max(int(record["world_size"]) for record in run.records)
        planned_from = "summary.json" if done else "world_size"
        wall_s, map_s = timing.get("wall_s"), timing.get("map_s") or _map_s(run)
        timed_from = "summary.json" if wall_s else "rank records"
        cost_usd, cost_basis = _our_cost(run, prices, region)
    return Corrected(
        run=run.name,
        kind="reference" if isinstance(run, ReferenceRun) else "skyfan",
        ranks_present=len(run.records),
        ranks_planned=planned,
        planned_from=planned_from,
        samples=run.samples,
        bits=run.bits,
        wall_s=wall_s,
        map_s=map_s,
        timed_from=timed_from,
        published_bps=math.fsum(record["throughput_bps"] for record in run.records),
        wall_bps=_rate(run.bits, wall_s),
        map_bps=_rate(run.bits, map_s),
        samples_per_s_wall=_rate(run.samples, wall_s),
        cost_usd=cost_usd,
        cost_at_most_usd=cost_at_most_usd,
        cost_basis=cost_basis,
        flags=_flags(run, planned, planned_from),
    )


def _rate(amount: float, seconds: float | None) -> float | None:
    return amount / seconds if seconds else None


def _planned(run: ReferenceRun, worlds: int | None) -> tuple[int | None, str]:
    if worlds is not None:
        return worlds, "total_execution_time.csv"
    if run.partition_mb and run.data_gb:
        return planned_ranks(run.partition_mb, run.data_gb), f"{run.data_gb:g} GB ÷ {run.partition_mb} MB"
    return None, ""


def _flags(run: RecordedRun, planned: int | None, planned_from: str) -> tuple[str, ...]:
    flags = []
    present = len(run.records)
    if planned is not None and present < planned:
        flags.append(f"incomplete: {present:,} of {planned:,} ranks ({planned_from}); its sums are too small")
    if planned is not None and present > planned:
        flags.append(f"{present:,} records for {planned:,} planned ranks")
    if isinstance(run, ReferenceRun):
        named = [str(record.get("data_path", "")) for record in run.records]
        if present == S3_LISTING_PAGE:
            flags.append("exactly 1,000 records: one page of an S3 listing, so that the rest was never read")
        elif len(set(named)) < len(named):
            flags.append(f"{len(named) - len(set(named))} records repeat a data file")
    return tuple(flags)


def _reference_cost(
    run: ReferenceRun, planned: int | None, wall_s: float | None, timings: Timings, prices: Prices, region: str
) -> tuple[float | None, float | None, str]:
    """(estimate, upper bound, basis) in USD; billed durations were published for 75 MB partitions only."""
    billing = timings.billing
    if not billing or planned is None or run.partition_mb is None:
        return None, None, ""
    rank_s = billing.seconds_per_mb * run.partition_mb
    estimate = _fan_out_usd(planned, rank_s, billing.memory_mb, prices, region)
    at_most = _fan_out_usd(planned, wall_s, billing.memory_mb, prices, region) if wall_s else None
    if at_most is not None:
        estimate = min(estimate, at_most)  # no rank is billed for longer than the run took
    lines = sum(map(len, billing.billed_s.values()))
    basis = (
        f"{planned:,} ranks × {rank_s:.1f} s ({billing.seconds_per_mb:.3f} s/MB in {lines} REPORT lines) "
        f"× {billing.memory_mb:,} MB, at most the wall time"
    )
    return estimate, at_most, basis


def _fan_out_usd(ranks: int, rank_s: float, memory_mb: int, prices: Prices, region: str) -> float:
    usage = Usage(
        invocations=[Invocation(rank_s, count=ranks)], memory_mb=memory_mb, transitions=pipeline_transitions(ranks)
    )
    return bill(usage, prices, region).total_usd


def _our_cost(run: RecordedRun, prices: Prices, region: str) -> tuple[float, str]:
    known = (run.summary or {}).get("cost")
    if known:
        return known["total_usd"], known["basis"]
    usage = usage_of_ranks(rank_times(run.records))
    return bill(usage, prices, region).total_usd, f"rank wall seconds × {usage.memory_mb:,} MB, as if on Lambda"


def _map_s(run: RecordedRun) -> float:
    """First rank's start to last rank's end."""
    starts = [datetime.fromisoformat(record["started_at"]) for record in run.records]
    ends = [datetime.fromisoformat(record["ended_at"]) for record in run.records]
    return (max(ends) - min(starts)).total_seconds()


def our_measurements(run: RecordedRun) -> dict[str, float]:
    """Medians and extremes over the ranks of a Skyfan run, by the definitions of docs/reference/records.md."""
    walls = [record["wall_s"] for record in run.records]
    return {
        "rank_wall_s_median": statistics.median(walls),
        "rank_wall_s_min": min(walls),
        "rank_wall_s_max": max(walls),
        "cpu_s_median": statistics.median(record["total_cpu_time (seconds)"] for record in run.records),
        "peak_rss_mb_max": max(record["peak_rss_bytes"] for record in run.records) / 2**20,
        "batch_s_median": statistics.median(record["execution_time (seconds/batch)"] for record in run.records),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """All repetitions with one partition and data size; only complete and timed ones count.

    `published_bps` is the mean of the printed rates, `wall_bps` all bits ÷ all wall seconds.
    """

    partition_mb: int
    data_gb: float
    complete_runs: int
    runs: int
    published_bps: float
    wall_bps: float

    @property
    def overstated(self) -> float:
        """Published rate ÷ true rate."""
        return self.published_bps / self.wall_bps


def by_configuration(runs: Sequence[RecordedRun], rows: Sequence[Corrected]) -> list[Configuration]:
    """Groups the timed runs of the reference system; `rows[i]` is `runs[i]` corrected."""
    groups: dict[tuple[int, float], list[Corrected]] = {}
    for run, row in zip(runs, rows, strict=True):
        if isinstance(run, ReferenceRun) and run.partition_mb and run.data_gb and row.wall_s:
            groups.setdefault((run.partition_mb, run.data_gb), []).append(row)
    found = []
    for (partition_mb, data_gb), members in groups.items():
        whole = [row for row in members if row.complete]
        if whole:
            bits, wall_s = sum(row.bits for row in whole), sum(row.wall_s or 0.0 for row in whole)
            published = statistics.fmean(row.published_bps for row in whole)
            found.append(Configuration(partition_mb, data_gb, len(whole), len(members), published, bits / wall_s))
    return found
