"""From a run's records to what AWS would bill for it, and the same at other memory sizes."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skyfan.cost.bill import Bill, Invocation, Usage, bill
from skyfan.cost.prices import Architecture, Prices
from skyfan.errors import BadInput

MB_PER_VCPU = 1769
MAX_VCPUS = 6.0
COMPARE_MEMORY_MB = (1769, 3008, 3538, 5307, 7076, 8846, 10_240)

# Objects of a run besides the ranks' own: plan, map items, combined_data, summary, report.
_RUN_PUTS = 5
# A rank writes its predictions (the commit) and its record; the aggregator reads each back once.
_RANK_PUTS = 2
_RANK_GETS_BY_AGGREGATOR = 2
# The states of the pipeline around the map: partition, map, aggregate and the end.
_PIPELINE_STATES = 4
# One child workflow is started (a transition) and enters one task (another); a retry enters it again.
_TRANSITIONS_PER_RANK = 2
# Lambda's own START, END and REPORT lines and the executor's structured lines; an assumption, not measured.
LOG_BYTES_PER_INVOCATION = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class RankTime:
    """What of a rank's record matters to its bill."""

    wall_s: float
    compute_s: float
    requests: int
    peak_rss_mb: float
    vcpus: float


def rank_times(records: Iterable[Mapping[str, Any]]) -> list[RankTime]:
    """Reads our rank records (those with a `schema`).

    Raises:
        BadInput: there is none, or they are the reference system's, whose seconds are profiler seconds.
    """
    times = []
    for record in records:
        if "schema" not in record:
            raise BadInput(
                "these rank records have no schema: they hold the reference system's profiler seconds, which are "
                "not billed durations; give Lambda's REPORT lines by --report-lines."
            )
        times.append(
            RankTime(
                # What ranks of --collectives wait for after their commit is billed like everything else.
                wall_s=record["wall_s"] + ((record.get("collectives") or {}).get("end_s") or 0.0),
                compute_s=min(record["compute_s"], record["wall_s"]),
                requests=int(record.get("s3_num_requests") or 0),
                peak_rss_mb=record["peak_rss_bytes"] / 2**20,
                vcpus=float(record.get("threads") or 1),
            )
        )
    if not times:
        raise BadInput("the run has no rank record, so that there is nothing to bill.")
    return times


def usage_of_ranks(
    ranks: Sequence[RankTime],
    *,
    attempts: int | None = None,
    memory_mb: int = 10_240,
    architecture: Architecture = "x86_64",
    stored_bytes: int = 0,
    kept_days: float = 30.0,
) -> Usage:
    """The run as AWS sees it. Attempts beyond one a rank are billed at the median duration (theirs is not kept)."""
    extra = max(0, (attempts or len(ranks)) - len(ranks))
    durations = [rank.wall_s for rank in ranks] + [statistics.median(rank.wall_s for rank in ranks)] * extra
    return Usage(
        invocations=[Invocation(duration) for duration in durations],
        memory_mb=memory_mb,
        architecture=architecture,
        transitions=pipeline_transitions(len(ranks), extra),
        s3_puts=_RUN_PUTS + _RANK_PUTS * len(ranks),
        s3_gets=sum(rank.requests for rank in ranks) + _RANK_GETS_BY_AGGREGATOR * len(ranks),
        log_bytes=LOG_BYTES_PER_INVOCATION * len(durations),
        stored_bytes=stored_bytes,
        kept_days=kept_days,
    )


def pipeline_transitions(ranks: int, retries: int = 0) -> int:
    """State transitions of one run: the pipeline's own, two a rank, one a retry."""
    return _PIPELINE_STATES + _TRANSITIONS_PER_RANK * ranks + retries


def vcpus(memory_mb: float) -> float:
    """Share of processors of a function of this size: one a 1,769 MB, six at the most."""
    return min(MAX_VCPUS, memory_mb / MB_PER_VCPU)


def speed(processors: float, parallel_share: float) -> float:
    """Speed relative to one processor when `parallel_share` of the arithmetic runs in parallel (Amdahl)."""
    if processors <= 1:
        return processors
    return 1 / ((1 - parallel_share) + parallel_share / processors)


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryOption:
    """The same run at another memory size."""

    memory_mb: int
    architecture: Architecture
    rank_s: float
    bill: Bill
    fits: bool


def compare(
    ranks: Sequence[RankTime],
    prices: Prices,
    region: str = "us-east-1",
    *,
    measured_memory_mb: int | None = None,
    memory_mb: Sequence[int] = COMPARE_MEMORY_MB,
    architectures: Sequence[Architecture] = ("x86_64",),
    parallel_share: float = 0.9,
) -> list[MemoryOption]:
    """Bills of the same ranks at other memory sizes.

    Compute time is scaled by the processors of the size, reading and the rest stay. The ranks were measured on
    `measured_memory_mb` of Lambda, or on as many processors as their records say. An option `fits` when its
    memory is at least 1.2 × the peak resident memory. Arm is taken as fast as x86: measure before relying on it.
    """
    need_mb = 1.2 * max(rank.peak_rss_mb for rank in ranks)
    options = []
    for architecture in architectures:
        for size_mb in memory_mb:
            scaled = [_rescale(rank, size_mb, measured_memory_mb, parallel_share) for rank in ranks]
            usage = usage_of_ranks(scaled, memory_mb=size_mb, architecture=architecture)
            median_s = statistics.median(rank.wall_s for rank in scaled)
            options.append(
                MemoryOption(size_mb, architecture, median_s, bill(usage, prices, region), size_mb >= need_mb)
            )
    return options


def _rescale(rank: RankTime, size_mb: int, measured_mb: int | None, parallel_share: float) -> RankTime:
    measured = vcpus(measured_mb) if measured_mb else rank.vcpus
    factor = speed(measured, parallel_share) / speed(vcpus(size_mb), parallel_share)
    wall_s = rank.wall_s - rank.compute_s + rank.compute_s * factor
    return dataclasses.replace(rank, wall_s=wall_s, compute_s=rank.compute_s * factor, vcpus=vcpus(size_mb))
