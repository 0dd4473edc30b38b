"""`skyfan plan`: the plan as a table, or what it would take and cost, without running anything."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import skyfan
from skyfan.aws_limits import LAMBDA_CONCURRENCY, LAMBDA_MAX_MEMORY_MB, LAMBDA_MIN_MEMORY_MB
from skyfan.backends.stepfunctions.access import AWS, prepare_environment
from skyfan.cli import options
from skyfan.cli.console import configure_logs, err, out, print_json, say
from skyfan.cli.cost import known_architecture
from skyfan.cli.forecast import run_calibration, show_forecast
from skyfan.engines.device import CPU
from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.planning import Plan
from skyfan.preprocessing import parse_steps
from skyfan.progress.state import size_sentence
from skyfan.progress.terminal import TerminalProgress
from skyfan.studies.forecast.forecast_calibration import MeasuredRate
from skyfan.units import counted, format_size

MAX_LISTED_RANKS = 20
PACKAGED = "skyfan"


Fit = Annotated[
    list[str] | None,
    typer.Option(metavar="RUNS", help="Fit --calibration FILE to finished runs (a folder of them, URI; repeatable)."),
]


@options.takes_job(*options.JOB_FIELDS)
def plan(
    fields: dict[str, object],
    on: Annotated[str, typer.Option(help="Where it would run; aws: with --forecast.")] = "local",
    forecast: Annotated[bool, typer.Option("--forecast", help="Wall time and cost on AWS and Slurm.")] = False,
    fit: Fit = None,
    calibration: Annotated[str, typer.Option(help="Of the forecast: skyfan, published, or a file (URI).")] = PACKAGED,
    memory: Annotated[
        int, typer.Option(help="The executor's memory in MB.", min=LAMBDA_MIN_MEMORY_MB, max=LAMBDA_MAX_MEMORY_MB)
    ] = LAMBDA_MAX_MEMORY_MB,
    arch: Annotated[str, typer.Option(help="x86_64 or arm64.")] = "x86_64",
    region: options.Region = "us-east-1",
    concurrency: Annotated[int, typer.Option(help="The account's Lambda concurrency.", min=1)] = LAMBDA_CONCURRENCY,
    maps: Annotated[int, typer.Option(help="Distributed Maps side by side.", min=1)] = 1,
    prices: options.Prices = None,
    figure: Annotated[Path | None, typer.Option(help="Draw time against cost into this file (SVG, PDF, PNG).")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Claim --output and leave there what `skyfan rank` needs.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show which samples each rank would compute, or with --forecast what that takes. Reads metadata only.

    With --write the run is prepared for any scheduler that can count: its tasks run `skyfan rank OUTPUT`.
    """
    if fit:
        if calibration == PACKAGED:
            raise BadInput("--fit writes a calibration; name the file with --calibration FILE.")
        run_calibration(fit, calibration)
        if "dataset" not in fields:
            return
    if "dataset" not in fields:
        raise BadInput("name the data with --dataset FILE_OR_FOLDER.")
    prepare_environment(on)
    job = options.make_job(fields)
    if write:
        _write(job, as_json=as_json)
        return
    forecast = forecast or on == AWS
    if forecast:  # of machines elsewhere, whatever this one has
        job = job.model_copy(update={"device": CPU})
    with TerminalProgress(err, say, quiet=as_json) as listener:
        planned = skyfan.plan(job, progress=listener)
    if forecast:
        show_forecast(
            planned,
            calibration=calibration,
            rate=_rate(job) if "model" in fields else None,
            memory_mb=memory,
            architecture=known_architecture(arch),
            region=region,
            concurrency=concurrency,
            maps=maps,
            workers=planned.job.workers,
            prices=prices,
            figure=_drawable(figure),
            as_json=as_json,
        )
    else:
        _show(planned, as_json=as_json)


def _show(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        # A plan that is only looked at names no model, and so has no identity of its own.
        print_json(planned.model_dump(mode="json", by_alias=True, exclude={"run_id", "model_digest"}))
        return
    out.print(_table(planned))
    for step in parse_steps(planned.job.preprocess):
        out.print(f"before the model: {step}")


def _write(job: Job, *, as_json: bool) -> None:
    """Plans the run for a scheduler's array, and prints what to type next."""
    # Loads engines, which a plan that is only looked at does not need.
    from skyfan.backends.arrays import plan_array, prepare_array

    configure_logs()
    with TerminalProgress(err, say, quiet=as_json) as listener:
        prepared, models = prepare_array(job, listener)
        start, _ = plan_array(job, listener, target="array", prepared=prepared, models=models)
    if as_json:
        print_json({"output": job.output, "run_id": start.run_id, "start": start.name, "ranks": start.ranks})
        return
    command = f"{shlex.quote(job.output)} --start {start.name}"
    out.print(
        f"{counted(start.ranks, 'rank')} to do.\n"
        f"each task of an array, counted from 0:  skyfan rank {command}\n"
        f"when they have ended:                   skyfan aggregate {command}",
    )


def _rate(job: Job) -> MeasuredRate:
    from skyfan.studies.forecast.model_rate import measure_rate  # loads an engine

    return measure_rate(job)


def _drawable(figure: Path | None) -> Path | None:
    if figure and figure.suffix not in (".svg", ".pdf", ".png"):
        raise BadInput(f"--figure {figure} is no picture that can be drawn; end its name in .svg, .pdf or .png.")
    if figure and not figure.absolute().parent.is_dir():
        raise BadInput(f"--figure {figure}: there is no folder {figure.parent}; make it first.")
    return figure


def _table(planned: Plan) -> Table:
    table = Table(
        "rank",
        "samples",
        "data",
        "reads",
        title=(
            f"{planned.samples:,} samples, {format_size(planned.data_bytes)} in "
            f"{counted(len(planned.files), 'file')} → "
            f"{counted(planned.partitions, 'partition')}, {len(planned.working_ranks):,} of "
            f"{counted(planned.world_size, 'rank')} at work"
        ),
        title_justify="left",
        caption=size_sentence(planned),
        caption_justify="left",
    )
    for rank in planned.working_ranks[:MAX_LISTED_RANKS]:
        item = planned.item(rank)
        table.add_row(str(rank), f"{item.samples:,}", format_size(item.data_bytes), item.data_path)
    left = len(planned.working_ranks) - MAX_LISTED_RANKS
    if left > 0:
        table.add_row("…", "", "", f"{left} more ranks")
    return table
