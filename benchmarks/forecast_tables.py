"""The tables of docs/explanation/forecast.md and scale.md: `python -m benchmarks.forecast_tables PUBLISHED`."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.forecast_validation import Validation, validate
from skyfan.aws_limits import LAMBDA_BURST, LAMBDA_RAMP_PER_S, MAP_CONCURRENCY
from skyfan.cost import Prices, load_prices
from skyfan.studies.forecast.forecast_calibration import Calibration, load_calibration
from skyfan.studies.forecast.map_simulation import Limits, Workload
from skyfan.studies.forecast.predict import Forecast, even_ranks, forecast
from skyfan.studies.published.timings import SAMPLE_BYTES
from skyfan.studies.text_tables import markdown
from skyfan.units import format_duration, format_size

TB = 2**40
MB = 2**20
_REPETITIONS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """An amount of data in partitions of one size, in an account with these limits."""

    data_bytes: int
    partition_bytes: int
    account: str
    limits: Limits


def scenarios() -> Iterator[Scenario]:
    """1 TB and 100 TB under a regular account, a raised one, and nested maps."""
    regular = ("1,000 at once, one map", Limits())
    raised = ("10,000 at once, one map", Limits(lambda_concurrency=MAP_CONCURRENCY))
    spread = (
        "10,000 at once, one map, data under 10 prefixes",
        Limits(lambda_concurrency=MAP_CONCURRENCY, prefixes=10),
    )
    # Lambda ramps each function by itself: ten functions, one per map, ramp ten times as fast.
    nested = (
        "100,000 at once, 10 nested maps and functions, 10 prefixes",
        Limits(
            lambda_concurrency=10 * MAP_CONCURRENCY,
            burst=10 * LAMBDA_BURST,
            ramp_per_s=10 * LAMBDA_RAMP_PER_S,
            maps=10,
            prefixes=10,
        ),
    )
    for account, limits in (regular, raised):
        for size in (100, 400, 1600):
            yield Scenario(TB, size * MB, account, limits)
    for account, limits in (regular, raised, spread, nested):
        for size in (400, 1600):
            yield Scenario(100 * TB, size * MB, account, limits)


def scale_forecast(scenario: Scenario, calibration: Calibration, prices: Prices) -> Forecast:
    """The scenario's forecast with samples of the published data set's size."""
    samples = scenario.data_bytes // SAMPLE_BYTES
    work = Workload(even_ranks(samples, SAMPLE_BYTES, scenario.partition_bytes), SAMPLE_BYTES)
    return forecast(
        work,
        calibration,
        prices,
        limits=scenario.limits,
        partition_size_bytes=scenario.partition_bytes,
        repetitions=_REPETITIONS,
    )


def scale_table(calibration: Calibration, prices: Prices) -> str:
    """Time, cost and the binding limit of every scenario, as Markdown."""
    rows = []
    for scenario in scenarios():
        one = scale_forecast(scenario, calibration, prices)
        rows.append(
            (
                format_size(scenario.data_bytes),
                format_size(scenario.partition_bytes),
                scenario.account,
                f"{one.ranks:,}",
                format_duration(one.rank_s),
                format_duration(one.wall_s),
                f"${one.cost_usd:,.0f}",
                one.binding + "".join(f"; {warning}" for warning in one.warnings),
            )
        )
    return markdown(("data", "partition", "account", "ranks", "a rank", "wall", "cost", "what binds"), rows)


def validation_tables(validations: Sequence[Validation]) -> str:
    """Errors of each split and every held-out configuration, as Markdown."""
    summary = [
        (
            one.name,
            str(one.fitted_runs),
            str(len(one.errors)),
            f"{one.median_error:.1%}",
            f"{float(np.percentile(one.errors, 90)):.0%}",
            f"{max(one.errors):.0%}",
            f"{sum(row.covered for row in one.predictions)} of {len(one.errors)}",
        )
        for one in validations
    ]
    heading = ("split", "fitted", "predicted", "median error", "90th percentile", "worst", "within the interval")
    parts = [markdown(heading, summary)]
    for one in validations:
        rows = [
            (
                f"{row.partition_mb} MB",
                f"{row.data_gb:g} GB",
                f"{row.ranks:,}",
                f"{row.predicted_s:.1f} ({row.low_s:.0f} to {row.high_s:.0f})",
                ", ".join(f"{measured:.1f}" for measured in row.measured_s),
                f"{float(np.median(row.errors)):.0%}",
            )
            for row in one.predictions
        ]
        table = markdown(("partition", "data", "ranks", "predicted s", "measured s", "median error"), rows)
        parts.append(f"### {one.name.capitalize()}\n\n{table}")
    return "\n".join(parts)


def main() -> None:
    """Writes all tables to standard output."""
    prices = load_prices()
    sys.stdout.write(validation_tables(validate(sys.argv[1])) + "\n")
    for name in ("skyfan", "published"):
        sys.stdout.write(f"## {name}\n\n{scale_table(load_calibration(name), prices)}\n")


if __name__ == "__main__":
    main()
