"""How well the forecast predicts published runs that it was not fitted on."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.published_calibration import (
    WALL_PER_PROFILER_S,
    Observation,
    fit,
    observations,
    predict_walls_s,
    profiler_s_per_mb,
    published_spread,
    read_timings,
)
from skyfan.studies.forecast.forecast_calibration import Calibration
from skyfan.studies.forecast.predict import interval
from skyfan.studies.published.published_runs import find_all_runs, reference_runs

_FITTED_GB = (1.0, 4.0, 10.0)
_FITTED_SCALE_GB = (12.6, 512.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One held-out configuration: predicted, and measured by each of its runs."""

    partition_mb: int
    data_gb: float
    ranks: int
    predicted_s: float
    low_s: float
    high_s: float
    measured_s: tuple[float, ...]

    @property
    def covered(self) -> int:
        """Number of measured runs within the 10th to 90th percentile."""
        return sum(self.low_s <= measured <= self.high_s for measured in self.measured_s)

    @property
    def errors(self) -> tuple[float, ...]:
        """|predicted ÷ measured − 1| of every run."""
        return tuple(abs(self.predicted_s / measured - 1) for measured in self.measured_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """One way of splitting the runs into fitted and predicted ones."""

    name: str
    fitted_runs: int
    calibration: Calibration
    predictions: tuple[Prediction, ...]

    @property
    def errors(self) -> list[float]:
        """Errors of all predicted runs."""
        return [error for prediction in self.predictions for error in prediction.errors]

    @property
    def median_error(self) -> float:
        """Median absolute relative error over predicted runs."""
        return statistics.median(self.errors)


def validate(folder: str, repetitions: int = 11) -> list[Validation]:
    """Fits and predicts by three splits of the published runs under `folder`.

    - data sizes: 1, 4 and 10 GB fitted, 2, 6, 8 and 12.6 GB predicted, both partition sizes;
    - partition size: 25 MB fitted, 100 MB predicted;
    - scale: data sizes up to 10 GB, 12.6 and 512 GB fitted, 100 GB to 1 TB predicted.

    A prediction is the median of `repetitions` simulations.

    Raises:
        BadInput: the published tables or records are not there.
    """
    runs = reference_runs(find_all_runs(folder))
    spread = published_spread(runs)
    seen = observations(read_timings(folder))
    early = [one for one in seen if one.year == 2024]
    late = [one for one in seen if one.year == 2025]
    small = [one for one in early if one.data_gb in _FITTED_GB]
    by_25, by_100 = ([one for one in early if one.partition_mb == mb] for mb in (25, 100))
    slope = WALL_PER_PROFILER_S * profiler_s_per_mb(runs, 25)
    scale = [one for one in late if one.data_gb in _FITTED_SCALE_GB]
    timed_12 = [one for one in late if one.data_gb == _FITTED_SCALE_GB[0]]
    return [
        _validation(
            "data sizes", small, [one for one in early if one not in small] + timed_12, fit(small, spread), repetitions
        ),
        _validation("partition size", by_25, by_100, fit(by_25, spread, s_per_mb=slope), repetitions),
        _validation(
            "scale", small + scale, [one for one in late if one not in scale], fit(small + scale, spread), repetitions
        ),
    ]


def _validation(
    name: str,
    fitted: Sequence[Observation],
    predicted: Iterable[Observation],
    calibration: Calibration,
    repetitions: int,
) -> Validation:
    groups: dict[tuple[int, float, int], list[Observation]] = {}
    for one in predicted:
        groups.setdefault((one.partition_mb, one.data_gb, one.ranks), []).append(one)
    rows = []
    for key, group in sorted(groups.items()):
        walls = predict_walls_s(group[0], calibration, repetitions)
        reach = interval(walls, calibration.residual_sigma)
        rows.append(Prediction(*key, statistics.median(walls), *reach, tuple(one.wall_s for one in group)))
    return Validation(name, len(fitted), calibration, tuple(rows))
