"""`skyfan plan --forecast` and `--fit`: time and cost of a run before it runs."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from skyfan.aws_limits import LAMBDA_CONCURRENCY, LAMBDA_MAX_MEMORY_MB, LAMBDA_MAX_VCPUS_MB, LAMBDA_MB_PER_VCPU
from skyfan.cli.console import out, print_json, say, show_table
from skyfan.cost import load_prices
from skyfan.cost.prices import Architecture
from skyfan.errors import BadInput
from skyfan.planning import Plan
from skyfan.runs.finding import find_runs
from skyfan.studies.forecast.computes import compare_computes
from skyfan.studies.forecast.forecast_calibration import Calibration, MeasuredRate, load_calibration
from skyfan.studies.forecast.map_simulation import Limits, Workload
from skyfan.studies.forecast.measured_calibration import calibrate
from skyfan.studies.forecast.predict import (
    ComputeForecast,
    Forecast,
    Recommendation,
    alternatives,
    forecast,
    pareto,
    recommend,
)
from skyfan.units import format_duration, format_size

PARTITION_SIZES_MB = (10, 25, 50, 75, 100, 200, 400)
MEMORY_SIZES_MB = (2 * LAMBDA_MB_PER_VCPU, 3 * LAMBDA_MB_PER_VCPU, LAMBDA_MAX_VCPUS_MB, LAMBDA_MAX_MEMORY_MB)
# A partition size that makes more ranks than this is left out of the table, because its simulation takes too long.
_MOST_RANKS = 200_000


def show_forecast(
    plan: Plan,
    *,
    calibration: str = "skyfan",
    rate: MeasuredRate | None = None,
    memory_mb: int = LAMBDA_MAX_MEMORY_MB,
    architecture: Architecture = "x86_64",
    region: str = "us-east-1",
    concurrency: int = LAMBDA_CONCURRENCY,
    maps: int = 1,
    workers: int | None = None,
    prices: Path | None = None,
    figure: Path | None = None,
    as_json: bool = False,
) -> None:
    """Prints the plan's own forecast, where else it could run, a table of alternatives and the recommended ones.

    `calibration` is a packaged name or a file, whose compute time `rate` of the model itself replaces;
    `concurrency` the account's Lambda concurrency; `workers` how many tasks, instances or cores the other computes get;
    `figure` a file for the plot of the Pareto front.

    Raises:
        BadInput: the plan has no samples, or calibration or prices cannot be used.
    """
    known, listed = load_calibration(calibration), load_prices(prices)
    known = rate.in_calibration(known) if rate else known
    limits = Limits(lambda_concurrency=concurrency, maps=maps)
    sample_bytes = plan.files[0].sample_bytes if plan.files else 0
    samples = [samples for samples in plan.rank_samples if samples]
    if not samples:
        raise BadInput("the plan has no samples; there is nothing to forecast.")
    work = Workload(samples, sample_bytes, memory_mb)
    own = forecast(
        work,
        known,
        listed,
        limits=limits,
        region=region,
        architecture=architecture,
        partition_size_bytes=plan.job.partition_size_bytes,
    )
    computes = compare_computes(own, work, known, listed, workers=workers, region=region)
    others = alternatives(
        plan.samples,
        sample_bytes,
        known,
        listed,
        partition_sizes_bytes=_sizes(plan),
        memory_mb=sorted({*MEMORY_SIZES_MB, memory_mb}),
        limits=limits,
        region=region,
        architecture=architecture,
        repetitions=11,
    )
    if figure:
        _draw(others, figure, plan)
    if as_json:
        print_json(_as_json(own, others, computes, known))
    else:
        _show(own, others, computes, known)


def _draw(others: Sequence[Forecast], figure: Path, plan: Plan) -> None:
    from skyfan.studies.forecast.pareto_figure import plot_pareto  # imports matplotlib, which is slow

    plot_pareto(others, figure, title=f"{format_size(plan.data_bytes)}, {plan.samples:,} samples")


def _show(own: Forecast, others: Sequence[Forecast], computes: Sequence[ComputeForecast], known: Calibration) -> None:
    show_table(_table("Forecast of this plan on Lambda", [own], None))
    show_table(_computes_table(computes))
    out.print(_advice(computes))
    front = pareto(others)
    if front:
        show_table(_table("Alternatives on Lambda that nothing beats in both time and cost", front, recommend(others)))
    else:
        out.print("Nothing of this can run within Lambda's limits.")
    out.print(
        "Costs have each rank's start on Lambda in them, which skyfan cost of a run on another machine has not.",
    )
    out.print(f"Calibration: {known.source}. {known.fit}.")


def run_calibration(folders: Sequence[str], output: str) -> Calibration:
    """Fits a calibration to the runs under `folders`, writes it to `output` and prints how well it fits.

    Raises:
        BadInput: there are no Skyfan runs.
    """
    found = calibrate([run for folder in folders for run in find_runs(folder)])
    found.save(output)
    say(f"Calibration from {found.source}: {found.fit or 'no wall time to compare with'}; written to {output}.")
    return found


def _sizes(plan: Plan) -> list[int]:
    sizes = {mb * 2**20 for mb in PARTITION_SIZES_MB} | ({plan.job.partition_size_bytes or 0} - {0})
    smallest = plan.data_bytes / _MOST_RANKS
    useful = sorted(size for size in sizes if size >= smallest)
    # All sizes above the dataset's own mean the same: one rank.
    return [size for size in useful if size <= plan.data_bytes] or useful[:1]


def _table(title: str, forecasts: Sequence[Forecast], wishes: Recommendation[Forecast] | None) -> Table:
    table = Table(title=title, title_justify="left", caption="in brackets: 10th to 90th percentile")
    for name in ("partition", "ranks", "memory", "wall time", "cost / USD", "rank", "bound by", "note"):
        table.add_column(name, justify="right")
    for one in forecasts:
        table.add_row(
            format_size(one.partition_size_bytes),
            f"{one.ranks:,}",
            f"{one.memory_mb:,} MB",
            f"{format_duration(one.wall_s)} ({format_duration(one.wall_low_s)} to {format_duration(one.wall_high_s)})",
            f"{one.cost_usd:.3g} ({one.cost_low_usd:.3g} to {one.cost_high_usd:.3g})",
            format_duration(one.rank_s),
            one.binding,
            "; ".join(one.warnings) or ", ".join(wishes.names_of(one) if wishes else ()),
        )
    return table


def _computes_table(computes: Sequence[ComputeForecast]) -> Table:
    table = Table(title="Where this plan could run (--compute; --on slurm)", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("compute", "runs on", "wall time", "USD", "bound by"):
        table.add_column(name, justify="right" if name in ("wall time", "USD") else "left", no_wrap=True)
    for one in computes:
        usd = "no price" if one.cost_usd is None else f"{one.cost_usd:.3g}"
        binding = "too long" if one.warnings else one.binding
        table.add_row(one.compute, one.runs_on, format_duration(one.wall_s), usd, binding)
    return table


def _advice(computes: Sequence[ComputeForecast]) -> str:
    chosen = recommend(computes)
    fastest, cheapest, trade_off = (
        f"{one.compute} ({one.runs_on})" for one in (chosen.fastest, chosen.cheapest, chosen.trade_off)
    )
    return (
        f"Recommended: --compute {trade_off}, the least time × cost. Fastest: {fastest}; cheapest: {cheapest}.\n"
        "Starts of machines are assumptions, GPUs other than H100 and A100 estimates, EC2 at its on-demand price: "
        "Spot is often less than half of it. Slurm without its queue's wait."
    )


def _as_json(
    own: Forecast, others: Sequence[Forecast], computes: Sequence[ComputeForecast], known: Calibration
) -> dict[str, object]:
    front, chosen = pareto(others), recommend(computes)
    wishes = recommend(others) if front else None
    return {
        "schema": "skyfan.forecast/1",
        "plan": own,
        "alternatives": others,
        "pareto": front,
        "cheapest": wishes and wishes.cheapest,
        "fastest": wishes and wishes.fastest,
        "best_trade_off": wishes and wishes.trade_off,
        "computes": computes,
        "recommended_compute": {
            "fastest": chosen.fastest,
            "cheapest": chosen.cheapest,
            "best_trade_off": chosen.trade_off,
        },
        "calibration": {"source": known.source, "fit": known.fit},
    }
