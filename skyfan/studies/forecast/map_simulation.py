"""A discrete-event simulation of one Distributed Map: ranks start, run, fail, start again, and end.

A rank starts when all of these allow it: the map's pace of starts, the map's concurrency, the account's Lambda
concurrency and the ramp towards it. Its duration is a fixed part, a cold start in a new environment, reading
(no faster than S3 answers requests for one prefix) and compute times a random factor. Time between two starts is
put down to the limit that caused it, so that a result says which one binds.
"""

import dataclasses
import heapq
import math
from collections.abc import Sequence

import numpy as np

from skyfan.aws_limits import (
    LAMBDA_BURST,
    LAMBDA_CONCURRENCY,
    LAMBDA_MAX_MEMORY_MB,
    LAMBDA_RAMP_PER_S,
    MAP_CONCURRENCY,
    S3_GETS_PER_S,
)
from skyfan.errors import BadInput
from skyfan.studies.billing.memory_sizes import speed, vcpus
from skyfan.studies.forecast.forecast_calibration import Calibration

MAX_ATTEMPTS = 4
_RETRY_AFTER_S = 2.0
# Requests of a rank besides its byte ranges: plan item and model.
_RANK_REQUESTS = 2

PACE, RAMP, LAMBDA, MAP = "pace of starts", "Lambda ramp", "Lambda concurrency", "map concurrency"
S3 = "S3 requests per prefix"
# Ranks that spend more than this share of their time waiting for S3's answers are bound by it.
_S3_SHARE = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What AWS allows. The defaults are a regular account's quotas (`skyfan.aws_limits` names the sources)."""

    lambda_concurrency: int = LAMBDA_CONCURRENCY
    burst: int = LAMBDA_BURST
    ramp_per_s: float = LAMBDA_RAMP_PER_S
    map_concurrency: int = MAP_CONCURRENCY
    maps: int = 1
    s3_gets_per_s: float = S3_GETS_PER_S
    prefixes: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) <= 0:
                raise BadInput(f"limit {field.name} is {getattr(self, field.name)}; it must be greater than zero.")

    def ramped(self, time_s: float) -> float:
        """Environments that Lambda allows `time_s` after the start."""
        return min(self.lambda_concurrency, self.burst + self.ramp_per_s * time_s)

    @property
    def max_open(self) -> int:
        """Children that all maps together may run at once."""
        return self.map_concurrency * self.maps


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """The work of a run: samples of each rank, bytes of a sample, and the memory size of the function."""

    rank_samples: Sequence[int]
    sample_bytes: int
    memory_mb: int = LAMBDA_MAX_MEMORY_MB

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self.rank_samples)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated run.

    `held_back_s` is the time between starts that each limit caused. `s3_wait_s` is the time that all ranks together
    waited for S3 beyond their own reading rate.
    """

    wall_s: float
    map_s: float
    aggregate_s: float
    billed_s: float
    attempts: int
    done: int
    failed: int
    peak_concurrency: int
    longest_rank_s: float
    requests: int
    s3_wait_s: float
    held_back_s: dict[str, float]

    @property
    def binding(self) -> str:
        """The limit that determines the wall time.

        S3, if ranks wait for it; else the limit that delayed starts most, if starting took longer than a rank.
        """
        if self.s3_wait_s > _S3_SHARE * self.billed_s:
            return S3
        if sum(self.held_back_s.values()) <= self.longest_rank_s:
            return "longest rank"
        return max(self.held_back_s, key=lambda limit: self.held_back_s[limit])


@dataclasses.dataclass(slots=True)
class _Clock:
    """The state of the simulation between events."""

    running: list[float] = dataclasses.field(default_factory=list)
    last_start_s: float = -math.inf
    idle: int = 0
    peak: int = 0
    s3_free_s: float = 0.0

    def end_before(self, time_s: float) -> None:
        while self.running and self.running[0] <= time_s:
            heapq.heappop(self.running)
            self.idle += 1


def simulate(work: Workload, calibration: Calibration, limits: Limits, seed: int = 0) -> Outcome:
    """Runs the work once; the same seed gives the same outcome.

    Raises:
        BadInput: the work has no rank.
    """
    if not work.ranks:
        raise BadInput("a run without ranks cannot be forecast; the plan is empty.")
    random = np.random.default_rng(seed)
    compute_s, read_s, requests = _rank_loads(work, calibration, random)
    fails = _failures(work.ranks, calibration.failure_share, random)
    clock, held = _Clock(), {PACE: 0.0, RAMP: 0.0, LAMBDA: 0.0, MAP: 0.0}
    ready = [(0.0, rank, 1) for rank in range(work.ranks)]
    interval_s = calibration.start_interval_s / limits.maps  # every map starts its children at its own pace
    billed_s, end_s, longest_s, s3_wait_s, attempts, done, lost = 0.0, 0.0, 0.0, 0.0, 0, 0, 0
    while ready:
        ready_s, rank, attempt = heapq.heappop(ready)
        start_s = _next_start(clock, ready_s, interval_s, limits, held)
        read_end_s = _read(clock, start_s, read_s[rank], requests[rank], limits)
        s3_wait_s += read_end_s - start_s - read_s[rank]
        cold_s = calibration.cold_start_s if _takes_new_environment(clock) else 0.0
        duration_s = cold_s + calibration.rank_fixed_s + (read_end_s - start_s) + compute_s[rank]
        attempts += 1
        if attempt <= fails.get(rank, 0):
            duration_s *= 0.5  # an attempt fails, on average, half way
            if attempt < MAX_ATTEMPTS:
                wait_s = _RETRY_AFTER_S * 2 ** (attempt - 1)
                heapq.heappush(ready, (start_s + duration_s + wait_s, rank, attempt + 1))
            else:
                lost += 1
        else:
            done += 1
        heapq.heappush(clock.running, start_s + duration_s)
        clock.peak = max(clock.peak, len(clock.running))
        billed_s, end_s, longest_s = billed_s + duration_s, max(end_s, start_s + duration_s), max(longest_s, duration_s)
    counted = min(work.ranks, calibration.aggregate_at_most_ranks or work.ranks)
    aggregate_s = calibration.aggregate_s + calibration.aggregate_s_per_rank * counted
    return Outcome(
        wall_s=calibration.plan_s + end_s + aggregate_s,
        map_s=end_s,
        aggregate_s=aggregate_s,
        billed_s=billed_s,
        attempts=attempts,
        done=done,
        failed=lost,
        peak_concurrency=clock.peak,
        longest_rank_s=longest_s,
        requests=int(sum(requests)),
        s3_wait_s=s3_wait_s,
        held_back_s=held,
    )


def _rank_loads(
    work: Workload, calibration: Calibration, random: np.random.Generator
) -> tuple[list[float], list[float], list[int]]:
    """Compute seconds, read seconds and S3 requests of every rank."""
    samples = np.asarray(work.rank_samples, dtype=np.float64)
    share = calibration.parallel_share
    slower = speed(calibration.measured_vcpus, share) / speed(vcpus(work.memory_mb), share)
    compute = samples * calibration.compute_s_per_sample * slower * calibration.spread.draw(work.ranks, random)
    size_bytes = samples * work.sample_bytes
    read = size_bytes / calibration.read_bytes_per_s if calibration.read_bytes_per_s else np.zeros(work.ranks)
    requests = np.ceil(size_bytes / calibration.request_bytes).astype(int) + _RANK_REQUESTS
    return compute.tolist(), read.tolist(), requests.tolist()


def _failures(ranks: int, share: float, random: np.random.Generator) -> dict[int, int]:
    """Rank → how many of its attempts fail in a row."""
    if share == 0:
        return {}
    counts = random.geometric(1 - share, ranks) - 1
    return {int(rank): int(counts[rank]) for rank in np.flatnonzero(counts)}


def _next_start(clock: _Clock, ready_s: float, interval_s: float, limits: Limits, held: dict[str, float]) -> float:
    """The first instant at which a rank may start; adds its wait to the limit that caused it."""
    start_s = max(ready_s, clock.last_start_s + interval_s, 0.0)
    if start_s > ready_s:
        held[PACE] += start_s - max(clock.last_start_s, ready_s)
    clock.end_before(start_s)
    while len(clock.running) >= min(limits.max_open, limits.ramped(start_s)):
        limit, until_s = _slot(clock, start_s, limits)
        held[limit] += until_s - start_s
        start_s = until_s
        clock.end_before(start_s)
    clock.last_start_s = start_s
    return start_s


def _slot(clock: _Clock, now_s: float, limits: Limits) -> tuple[str, float]:
    """Which limit is reached, and when the next slot opens: at a rank's end or by the ramp."""
    end_s = clock.running[0]
    count = len(clock.running)
    if count >= limits.max_open:
        return MAP, end_s
    if count >= limits.lambda_concurrency:
        return LAMBDA, end_s
    grown_s = (count + 1 - limits.burst) / limits.ramp_per_s
    # The next float after `now_s` guarantees progress where rounding would give `now_s` itself.
    return RAMP, min(end_s, max(grown_s, math.nextafter(now_s, math.inf)))


def _read(clock: _Clock, start_s: float, read_s: float, requests: int, limits: Limits) -> float:
    """The instant at which the rank has its data: at its own rate, after S3 has answered all earlier requests."""
    answered_s = max(clock.s3_free_s, start_s) + requests / (limits.s3_gets_per_s * limits.prefixes)
    clock.s3_free_s = answered_s
    return max(start_s + read_s, answered_s) if read_s else start_s


def _takes_new_environment(clock: _Clock) -> bool:
    if clock.idle:
        clock.idle -= 1
        return False
    return True
