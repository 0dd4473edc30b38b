"""Forecasts time and cost of a run: repeated simulation, alternatives, the Pareto front."""

import dataclasses
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Generic, TypeVar

import numpy as np

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB, LAMBDA_TIMEOUT_S
from skyfan.cost import Architecture, Invocation, Prices, bill, run_usage
from skyfan.errors import BadInput
from skyfan.partitioning import samples_per_partition
from skyfan.studies.forecast.forecast_calibration import Calibration
from skyfan.studies.forecast.map_simulation import Limits, Outcome, Workload, simulate

INTERVAL = (10, 90)
_QUANTILES = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted time and cost of one configuration: median, and the 10th and 90th percentile."""

    partition_size_bytes: int
    ranks: int
    memory_mb: int
    architecture: Architecture
    wall_s: float
    wall_low_s: float
    wall_high_s: float
    cost_usd: float
    cost_low_usd: float
    cost_high_usd: float
    rank_s: float
    binding: str
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ComputeForecast:
    """Time and cost of a plan on one kind of workers: median, and the 10th and 90th percentile of the time.

    `cost_usd` is None where no price is known; a forecast with `warnings` cannot run as it is.
    """

    compute: str
    runs_on: str
    workers: int
    wall_s: float
    wall_low_s: float
    wall_high_s: float
    cost_usd: float | None
    binding: str
    basis: str
    warnings: tuple[str, ...] = ()


P = TypeVar("P", Forecast, ComputeForecast)


def even_ranks(samples: int, sample_bytes: int, partition_size_bytes: int) -> list[int]:
    """Samples of each rank when every rank gets one partition and the last one gets the rest.

    Raises:
        BadInput: there are no samples.
    """
    if samples <= 0 or sample_bytes <= 0:
        raise BadInput(f"a dataset of {samples} samples of {sample_bytes} bytes cannot be forecast.")
    step = samples_per_partition(sample_bytes, partition_size_bytes)
    whole, rest = divmod(samples, step)
    return [step] * whole + ([rest] if rest else [])


def forecast(
    work: Workload,
    calibration: Calibration,
    prices: Prices,
    *,
    limits: Limits | None = None,
    region: str = "us-east-1",
    architecture: Architecture = "x86_64",
    partition_size_bytes: int | None = None,
    repetitions: int = 20,
) -> Forecast:
    """Simulates the work `repetitions` times; the wall time's interval includes the calibration's own error.

    Raises:
        BadInput: the work has no rank, or there are no prices for the region.
    """
    used = limits or Limits()
    outcomes = [simulate(work, calibration, used, seed) for seed in range(repetitions)]
    walls = [outcome.wall_s for outcome in outcomes]
    low_s, high_s = interval(walls, calibration.residual_sigma)
    costs = [_cost(work, outcome, prices, region, architecture) for outcome in outcomes]
    typical = outcomes[int(np.argsort(walls)[repetitions // 2])]
    return Forecast(
        partition_size_bytes=partition_size_bytes or max(work.rank_samples) * work.sample_bytes,
        ranks=work.ranks,
        memory_mb=work.memory_mb,
        architecture=architecture,
        wall_s=float(np.median(walls)),
        wall_low_s=low_s,
        wall_high_s=high_s,
        cost_usd=float(np.median(costs)),
        cost_low_usd=float(np.percentile(costs, INTERVAL[0])),
        cost_high_usd=float(np.percentile(costs, INTERVAL[1])),
        rank_s=typical.billed_s / typical.attempts,
        binding=typical.binding,
        warnings=_warnings(typical),
    )


def interval(walls_s: Sequence[float], residual_sigma: float) -> tuple[float, float]:
    """10th and 90th percentile of simulated wall times, each spread by the calibration's own log-normal error."""
    normal = [NormalDist().inv_cdf((number + 0.5) / _QUANTILES) for number in range(_QUANTILES)]
    spread = np.outer(walls_s, np.exp(residual_sigma * np.array(normal)))
    low, high = np.percentile(spread, INTERVAL)
    middle = float(np.median(walls_s))
    return min(middle, float(low)), max(middle, float(high))


def _cost(work: Workload, outcome: Outcome, prices: Prices, region: str, architecture: Architecture) -> float:
    usage = run_usage(
        [Invocation(outcome.billed_s / outcome.attempts, count=outcome.attempts)],
        work.ranks,
        reads=outcome.requests,
        memory_mb=work.memory_mb,
        architecture=architecture,
    )
    return bill(usage, prices, region).total_usd


def _warnings(outcome: Outcome) -> tuple[str, ...]:
    found = []
    if outcome.longest_rank_s > LAMBDA_TIMEOUT_S:
        found.append(f"the longest rank needs {outcome.longest_rank_s:.0f} s, Lambda stops it at {LAMBDA_TIMEOUT_S} s")
    if outcome.aggregate_s > LAMBDA_TIMEOUT_S:
        found.append(
            f"merging needs {outcome.aggregate_s:.0f} s, Lambda stops it at {LAMBDA_TIMEOUT_S} s: merge in a tree"
        )
    if outcome.failed:
        found.append(f"{outcome.failed} ranks fail every attempt")
    return tuple(found)


def alternatives(
    samples: int,
    sample_bytes: int,
    calibration: Calibration,
    prices: Prices,
    *,
    partition_sizes_bytes: Sequence[int],
    memory_mb: Sequence[int] = (LAMBDA_MAX_MEMORY_MB,),
    limits: Limits | None = None,
    region: str = "us-east-1",
    architecture: Architecture = "x86_64",
    repetitions: int = 20,
) -> list[Forecast]:
    """A forecast for every combination of partition size and memory size."""
    return [
        forecast(
            Workload(even_ranks(samples, sample_bytes, size_bytes), sample_bytes, size_mb),
            calibration,
            prices,
            limits=limits,
            region=region,
            architecture=architecture,
            partition_size_bytes=size_bytes,
            repetitions=repetitions,
        )
        for size_mb in memory_mb
        for size_bytes in partition_sizes_bytes
    ]


def pareto(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """The runnable forecasts that no other beats in both wall time and cost, fastest first."""
    front: list[Forecast] = []
    for candidate in sorted(forecasts, key=lambda one: (one.wall_s, one.cost_usd)):
        if not candidate.warnings and (not front or candidate.cost_usd < front[-1].cost_usd):
            front.append(candidate)
    return front


@dataclasses.dataclass(frozen=True, slots=True)
class Recommendation(Generic[P]):
    """The cheapest and the fastest forecast, and the one with the least time × money."""

    cheapest: P
    fastest: P
    trade_off: P

    def names_of(self, one: P) -> list[str]:
        """What this forecast is recommended as."""
        named = (("fastest", self.fastest), ("best trade-off", self.trade_off), ("cheapest", self.cheapest))
        return [name for name, chosen in named if chosen is one]


def recommend(forecasts: Iterable[P]) -> Recommendation[P]:
    """Cheapest, fastest and best trade-off of what can run and has a price.

    Raises:
        BadInput: there is none.
    """
    able = [(one.wall_s, one.cost_usd, one) for one in forecasts if one.cost_usd is not None and not one.warnings]
    if not able:
        raise BadInput("none of these configurations can run this plan; take smaller partitions (--partition-size).")
    return Recommendation(
        cheapest=min(able, key=lambda one: (one[1], one[0]))[2],
        fastest=min(able, key=lambda one: (one[0], one[1]))[2],
        trade_off=min(able, key=lambda one: (one[0] * one[1], one[0]))[2],
    )
