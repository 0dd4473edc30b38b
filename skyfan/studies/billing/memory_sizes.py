"""The same ranks at other memory sizes of Lambda: their processors, their time and their bill."""

import dataclasses
import statistics
from collections.abc import Sequence

from skyfan.aws_limits import (
    LAMBDA_MAX_MEMORY_MB,
    LAMBDA_MAX_VCPUS,
    LAMBDA_MAX_VCPUS_MB,
    LAMBDA_MB_PER_VCPU,
    LAMBDA_NEW_ACCOUNT_MEMORY_MB,
)
from skyfan.cost import Architecture, Bill, Prices, RankTime, bill, usage_of_ranks

# One to four whole processors, all six, and the largest sizes of a new and of a regular account.
COMPARE_MEMORY_MB = (
    *sorted([LAMBDA_NEW_ACCOUNT_MEMORY_MB, *(count * LAMBDA_MB_PER_VCPU for count in range(1, 5))]),
    LAMBDA_MAX_VCPUS_MB,
    LAMBDA_MAX_MEMORY_MB,
)


def vcpus(memory_mb: float) -> float:
    """Processors of a function of this size: one for each 1,769 MB, six at the most."""
    return min(LAMBDA_MAX_VCPUS, memory_mb / LAMBDA_MB_PER_VCPU)


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

    Compute time is scaled by the processors of the size (`speed`); reading and the rest stay as measured. The ranks
    were measured at `measured_memory_mb`, else at the memory size in their records, else on as many processors as
    they had threads. An option `fits` when its memory is at least 1.2 × the peak resident memory. Arm is assumed to
    be as fast as x86: measure before relying on it.

    Raises:
        BadInput: there are no prices for the region.
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
    size_measured_mb = measured_mb or rank.memory_mb
    measured = vcpus(size_measured_mb) if size_measured_mb else rank.vcpus
    factor = speed(measured, parallel_share) / speed(vcpus(size_mb), parallel_share)
    wall_s = rank.wall_s - rank.compute_s + rank.compute_s * factor
    return dataclasses.replace(rank, wall_s=wall_s, compute_s=rank.compute_s * factor, vcpus=vcpus(size_mb))
