"""Fits the simulator to the reference system's published runs, of which only wall times are known.

Published are the wall time, the number of ranks, for some runs the map's time, and for some the ranks' profiler
seconds. Profiler seconds are not wall seconds, but their spread about the median shows how common stragglers are and
how slow. With that spread x the model is linear in its unknowns:

    map  = fixed + s · MB · E[largest of N draws of x] + interval · N
    rest = start + a · min(N, 1000)

`rest` is wall − map; the reference system merges one listing page of records at most. Solved by least absolute
relative deviation, all unknowns ≥ 0.
"""

import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

from skyfan import store
from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB, LAMBDA_MB_PER_VCPU, MAP_CONCURRENCY, S3_LISTING_PAGE
from skyfan.errors import BadInput
from skyfan.studies.forecast.forecast_calibration import Calibration, Spread
from skyfan.studies.forecast.map_simulation import Limits, Workload, simulate
from skyfan.studies.published.published_runs import CPU, ReferenceRun
from skyfan.studies.published.timings import SAMPLE_BYTES, Timings, planned_ranks, samples_per_file, timings_of

# We ran the reference's script on 2 cores: its profiler reported 107 s for 48.8 s of wall time. Used only where all
# fitted runs have one partition size, because they do not show how time grows with the size.
WALL_PER_PROFILER_S = 48.8 / 107
# The published account ran 10,000 children at once. Its pace of starts is fitted; no ramp is assumed besides.
PUBLISHED_LIMITS = Limits(lambda_concurrency=MAP_CONCURRENCY, burst=MAP_CONCURRENCY)
_MEASURED_VCPUS = LAMBDA_MAX_MEMORY_MB / LAMBDA_MB_PER_VCPU
_SIZES = re.compile(r"(\d+)(GB|TB)")
_NAMED_GB = {"timing": 12.6}
_STEPS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """One published run: its data, its ranks and its times."""

    partition_mb: int
    data_gb: float
    ranks: int
    wall_s: float
    map_s: float | None
    year: int

    def workload(self) -> Workload:
        """The work of this run, for the simulator."""
        return Workload([samples_per_file(self.partition_mb)] * self.ranks, SAMPLE_BYTES)


def read_timings(folder: str) -> Timings:
    """The published tables under `folder` (path or URI).

    Raises:
        BadInput: a table has a cell that is not a number or a time.
    """
    return timings_of([info.uri for info in store.list(folder.rstrip("/"))])


def observations(timings: Timings) -> list[Observation]:
    """All published runs whose data size is known, by partition and data size."""
    found = [
        Observation(mb, gb, timed.worlds or planned_ranks(mb, gb), timed.wall_s, None, 2024)
        for (mb, gb, _), timed in timings.by_size.items()
    ]
    for (mb, name, _), timed in timings.by_name.items():
        gb = _data_gb(name)
        if gb is not None:
            found.append(Observation(mb, gb, planned_ranks(mb, gb), timed.wall_s, timed.map_s, 2025))
    return sorted(found, key=lambda one: (one.year, one.partition_mb, one.data_gb))


def _data_gb(name: str) -> float | None:
    if name in _NAMED_GB:
        return _NAMED_GB[name]
    size = _SIZES.fullmatch(name)
    return float(size[1]) * (1000 if size[2] == "TB" else 1) if size else None


def _full_ranks(run: ReferenceRun) -> list[float]:
    """Profiler seconds of the ranks that have a whole partition."""
    most = max(record["num_batches"] for record in run.records)
    return [record[CPU] for record in run.records if record["num_batches"] == most]


def published_spread(runs: Iterable[ReferenceRun]) -> Spread:
    """The spread of profiler seconds ÷ the run's median, over all ranks of the runs at the default batch size.

    Raises:
        BadInput: there is no such run.
    """
    factors: list[float] = []
    for run in runs:
        if not run.batch_size:
            seconds = _full_ranks(run)
            middle = statistics.median(seconds)
            factors += [value / middle for value in seconds]
    if not factors:
        raise BadInput("no published rank records to take the spread of rank times from.")
    return Spread.measured(factors)


def expected_largest(spread: Spread, count: int) -> float:
    """Expected largest of `count` factors: the integral of the inverse function over d(pᶜᵒᵘⁿᵗ)."""
    power = np.linspace(0, 1, 2001) ** (1 / count)
    return float(np.trapezoid(np.interp(power, spread.probability, spread.factor), dx=1 / 2000))


def profiler_s_per_mb(runs: Iterable[ReferenceRun], partition_mb: int) -> float:
    """Median profiler seconds per MB of the runs with this partition size.

    Raises:
        BadInput: there is no such run.
    """
    seconds = [s for run in runs if run.partition_mb == partition_mb and not run.batch_size for s in _full_ranks(run)]
    if not seconds:
        raise BadInput(f"no published rank records of {partition_mb} MB partitions.")
    return statistics.median(seconds) / partition_mb


def fit(observed: Sequence[Observation], spread: Spread, *, s_per_mb: float | None = None) -> Calibration:
    """The calibration that explains the observed runs best.

    `s_per_mb` gives the compute seconds per MB where the runs have one partition size, and so do not show it.

    Raises:
        BadInput: the runs have one partition size and `s_per_mb` is not given.
    """
    sizes = {one.partition_mb for one in observed}
    if len(sizes) < 2 and s_per_mb is None:
        raise BadInput(f"runs with {sizes or 'no'} MB partitions only cannot tell time a MB from fixed time.")
    fitted = _fitted(observed, spread, s_per_mb)
    errors = [abs(math.expm1(-log)) for log in _logs(observed, fitted)]
    slope = fitted.compute_s_per_sample * samples_per_file(100) / 100 if len(sizes) > 1 else s_per_mb
    return fitted.model_copy(
        update={
            "residual_sigma": _residual_sigma(_left_out_logs(observed, spread, s_per_mb, slope)),
            "fit": f"{len(observed)} runs, median absolute error of wall time {statistics.median(errors):.1%}",
        }
    )


def _fitted(observed: Sequence[Observation], spread: Spread, s_per_mb: float | None) -> Calibration:
    """The best calibration, without its errors."""
    rows, values = _equations(observed, spread)
    solution = _solve(rows, values, {2: s_per_mb} if s_per_mb is not None else {})
    start_s, fixed_s, slope, interval_s, merge_s = (float(value) for value in solution)
    return Calibration(
        source="published runs",
        plan_s=start_s,
        start_interval_s=interval_s,
        rank_fixed_s=fixed_s,
        compute_s_per_sample=slope * 100 / samples_per_file(100),
        measured_vcpus=_MEASURED_VCPUS,
        spread=spread,
        aggregate_s=0.0,
        aggregate_s_per_rank=merge_s,
        aggregate_at_most_ranks=S3_LISTING_PAGE,
    )


def _logs(observed: Sequence[Observation], calibration: Calibration) -> list[float]:
    """ln(measured ÷ predicted) of every run."""
    distinct = {(one.partition_mb, one.ranks): one for one in observed}
    predicted = {key: statistics.median(predict_walls_s(one, calibration, 5)) for key, one in distinct.items()}
    return [math.log(one.wall_s / predicted[one.partition_mb, one.ranks]) for one in observed]


def _left_out_logs(
    observed: Sequence[Observation], spread: Spread, s_per_mb: float | None, slope: float | None
) -> list[float]:
    """ln(measured ÷ predicted) of every run, by a fit without the runs of its partition size and number of ranks.

    A fit is nearer to its own runs than to others, so that their errors would give too narrow an interval. `slope` is
    the compute seconds per MB of all runs; it serves where the rest has one partition size.
    """
    logs: list[float] = []
    for key in sorted({(one.partition_mb, one.ranks) for one in observed}):
        group = [one for one in observed if (one.partition_mb, one.ranks) == key]
        rest = [one for one in observed if (one.partition_mb, one.ranks) != key]
        alone = len({one.partition_mb for one in rest}) < 2
        logs += _logs(group, _fitted(rest or group, spread, slope if alone else s_per_mb))
    return logs


def _residual_sigma(logs: Sequence[float]) -> float:
    """The width with which the 10th to 90th percentile holds four of five runs, counting one that is not yet seen."""
    level = min(1.0, math.ceil(0.8 * (len(logs) + 1)) / len(logs))
    return float(np.quantile(np.abs(logs), level, method="higher")) / NormalDist().inv_cdf(0.9)


def _equations(observed: Sequence[Observation], spread: Spread) -> tuple[np.ndarray, np.ndarray]:
    """One row per known time: coefficients of (start, fixed, seconds per MB, interval, merge per rank)."""
    rows, values = [], []
    for one in observed:
        in_map = [0.0, 1.0, one.partition_mb * expected_largest(spread, one.ranks), float(one.ranks), 0.0]
        around = [1.0, 0.0, 0.0, 0.0, float(min(one.ranks, S3_LISTING_PAGE))]
        if one.map_s is None:
            rows.append([a + b for a, b in zip(in_map, around, strict=True)])
            values.append(one.wall_s)
        else:
            rows += [in_map, around]
            values += [one.map_s, one.wall_s - one.map_s]
    return np.array(rows), np.array(values)


def _solve(rows: np.ndarray, values: np.ndarray, known: dict[int, float]) -> np.ndarray:
    """Non-negative least absolute relative deviation, as float64 [5]; `known` maps a position to its given value."""
    left = values - sum((rows[:, column] * value for column, value in known.items()), np.zeros(len(values)))
    free = [column for column in range(rows.shape[1]) if column not in known]
    if not np.any(rows[:, 1] * rows[:, 0] == 0):
        free.remove(0)  # start and fixed always come together: one of them carries both
    relative = 1 / np.maximum(values, 1.0)
    while True:
        part = _least_deviation(rows[:, free], left, relative)
        if (part >= -1e-9).all():
            break
        free.remove(free[int(np.argmin(part))])
    solution = np.zeros(rows.shape[1])
    solution[free] = np.maximum(part, 0.0)
    for column, value in known.items():
        solution[column] = value
    return solution


def _least_deviation(rows: np.ndarray, values: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Iteratively reweighted least squares, which converges to least absolute deviation."""
    weights = relative
    for _ in range(_STEPS):
        solution: np.ndarray = np.linalg.lstsq(rows * weights[:, None], values * weights, rcond=None)[0]
        deviation = np.abs((values - rows @ solution) * relative)
        weights = relative / np.sqrt(np.maximum(deviation, 1e-3))
    return solution


def predict_walls_s(one: Observation, calibration: Calibration, repetitions: int) -> list[float]:
    """Simulated wall seconds of the observed run, one per seed."""
    return [simulate(one.workload(), calibration, PUBLISHED_LIMITS, seed).wall_s for seed in range(repetitions)]
