"""`skyfan cost`: a run as AWS bills it, item by item, and the same at other memory sizes."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from skyfan import store
from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB, LAMBDA_MIN_MEMORY_MB
from skyfan.cli import options
from skyfan.cli.console import print_json, show_table
from skyfan.cost import (
    Bill,
    Prices,
    Usage,
    bill,
    load_prices,
    pipeline_transitions,
    rank_times,
    recorded_region,
    usage_of_ranks,
)
from skyfan.cost.prices import Architecture
from skyfan.errors import BadInput
from skyfan.job import LAMBDA
from skyfan.runs.finding import RecordedRun, find_runs
from skyfan.runs.folder import RunFolder
from skyfan.studies.billing.lambda_logs import LambdaReport, fetch_reports, parse_reports
from skyfan.studies.billing.memory_sizes import MemoryOption, compare
from skyfan.units import format_size


def cost_command(
    run: Annotated[str | None, typer.Argument(help="A run's folder (any URI).", metavar="[RUN]")] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            help=f"The executor's memory in MB; by default as recorded, else {LAMBDA_MAX_MEMORY_MB:,}.",
            min=LAMBDA_MIN_MEMORY_MB,
            max=LAMBDA_MAX_MEMORY_MB,
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="x86_64 or arm64; by default as recorded, else x86_64.")] = None,
    region: Annotated[
        str | None, typer.Option(help="AWS region whose prices to use; by default as recorded, else us-east-1.")
    ] = None,
    report_lines: Annotated[Path | None, typer.Option(help="File with Lambda's REPORT lines of the run.")] = None,
    log_group: Annotated[str | None, typer.Option(help="CloudWatch log group to read REPORT lines from.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Start of the run (UTC), with --log-group.")] = None,
    until: Annotated[datetime | None, typer.Option(help="End of the run (UTC); default now.")] = None,
    compare_sizes: Annotated[bool, typer.Option("--compare", help="Also at other memory sizes, x86 and Arm.")] = False,
    prices: options.Prices = None,
    as_json: options.Json = False,
) -> None:
    """Print what the run was billed (from REPORT lines), or would be billed on AWS (from its rank records)."""
    architecture = known_architecture(arch) if arch else None
    listed = load_prices(prices)
    reports = _reports(report_lines, log_group, since, until)
    found = _one_run(run) if run else None
    priced_in = region or (found and recorded_region(rank_times(found.records))) or "us-east-1"
    if reports:
        usage, basis = _reported_usage(reports, architecture or "x86_64")
    elif found:
        usage, basis = _recorded_usage(found, memory, architecture)
    else:
        raise BadInput("nothing to bill: name a run's folder, or give --report-lines or --log-group.")
    result = bill(usage, listed, priced_in)
    sizes = _other_sizes(found, listed, priced_in, memory) if compare_sizes else []
    if as_json:
        print_json(_as_json(result, basis, sizes))
        return
    show_table(_bill_table(result, basis))
    if sizes:
        show_table(_sizes_table(sizes))


def known_architecture(name: str) -> Architecture:
    """The value of --arch.

    Raises:
        BadInput: it is neither x86_64 nor arm64.
    """
    if name not in ("x86_64", "arm64"):
        raise BadInput(f"--arch {name!r} is unknown; choose x86_64 or arm64.")
    return "arm64" if name == "arm64" else "x86_64"


def _reports(
    file: Path | None, log_group: str | None, since: datetime | None, until: datetime | None
) -> list[LambdaReport]:
    if file and log_group:
        raise BadInput("--report-lines and --log-group are two sources of the same numbers; give one.")
    if file:
        return parse_reports(store.read(str(file)).decode(errors="replace").splitlines())
    if not log_group:
        return []
    if not since:
        raise BadInput("--log-group needs --since, when the run started (UTC).")
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    return fetch_reports(log_group, since.replace(tzinfo=UTC), end)


def _reported_usage(reports: Sequence[LambdaReport], architecture: Architecture) -> tuple[Usage, str]:
    sizes = {report.memory_mb for report in reports}
    if len(sizes) > 1:
        raise BadInput(f"REPORT lines of several memory sizes ({sorted(sizes)} MB); give one function's log at a time.")
    usage = Usage(
        invocations=[report.invocation() for report in reports],
        memory_mb=sizes.pop(),
        architecture=architecture,
        transitions=pipeline_transitions(len(reports)),
    )
    return usage, f"{len(reports):,} REPORT lines of Lambda; requests to S3 and logs are not in them"


def _one_run(folder: str) -> RecordedRun:
    runs = find_runs(folder)
    if len(runs) > 1:
        raise BadInput(f"{folder} holds {len(runs)} runs; name one of them, such as {runs[0].name}.")
    return runs[0]


def _recorded_usage(run: RecordedRun, memory_mb: int | None, architecture: Architecture | None) -> tuple[Usage, str]:
    folder = RunFolder(run.name)
    compute = folder.read_plan().job.compute if store.exists(folder.plan_uri) else LAMBDA
    usage = usage_of_ranks(
        rank_times(run.records),
        attempts=(run.summary or {}).get("attempts"),
        memory_mb=memory_mb,
        architecture=architecture,
        compute=compute,
    )
    kept_bytes = sum(info.size_bytes for info in store.list(run.name))
    basis = (
        "wall seconds of the rank records, without Lambda's own initialisation, which plan --forecast adds"
        if compute == LAMBDA
        else f"wall seconds of the rank records on {compute}, without the machines' start and idling"
    )
    basis += f"; storage of the results, {format_size(kept_bytes)}, is not in it"
    if (run.summary or {}).get("target") != "aws":
        basis += "; the run was not on AWS: this is what its ranks would be billed if they took as long there"
    return usage, basis


def _other_sizes(run: RecordedRun | None, prices: Prices, region: str, memory_mb: int | None) -> list[MemoryOption]:
    if not run:
        raise BadInput("--compare needs the run's folder: REPORT lines do not say how much of the time was compute.")
    on_aws = (run.summary or {}).get("target") == "aws"
    return compare(
        rank_times(run.records),
        prices,
        region,
        measured_memory_mb=memory_mb if on_aws else None,
        architectures=("x86_64", "arm64"),
    )


def _bill_table(result: Bill, basis: str) -> Table:
    table = Table(title=f"Bill, {result.region}, list prices of {result.prices_dated}", caption=basis)
    table.add_column("item")
    for name in ("quantity", "unit price", "USD"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for item in result.items:
        if item.quantity:
            table.add_row(item.name, f"{item.quantity:,.6g}", f"{item.unit_usd:.10f}", f"{item.usd:,.6f}", item.unit)
    table.add_row("total", "", "", f"{result.total_usd:,.6f}", "", style="bold")
    return table


def _sizes_table(options: Sequence[MemoryOption]) -> Table:
    table = Table(
        title="The same ranks at other memory sizes",
        caption="compute scaled by processors (90% in parallel), the rest as measured; Arm taken as fast as x86",
    )
    for name in ("memory", "architecture", "median rank", "USD", "fits"):
        table.add_column(name, justify="right")
    cheapest = min((option.bill.total_usd for option in options if option.fits), default=None)
    for option in options:
        best = option.fits and option.bill.total_usd == cheapest
        table.add_row(
            f"{option.memory_mb:,} MB",
            option.architecture,
            f"{option.rank_s:.1f} s",
            f"{option.bill.total_usd:,.6f}",
            "yes" if option.fits else "no: too little memory",
            style="bold" if best else None,
        )
    return table


def _as_json(result: Bill, basis: str, options: Sequence[MemoryOption]) -> dict[str, Any]:
    return {
        "schema": "skyfan.bill/1",
        "region": result.region,
        "prices_dated": result.prices_dated,
        "basis": basis,
        "total_usd": result.total_usd,
        "items": [{**asdict(item), "usd": item.usd} for item in result.items],
        "compare": [
            {
                **{name: getattr(option, name) for name in ("memory_mb", "architecture", "rank_s", "fits")},
                "total_usd": option.bill.total_usd,
            }
            for option in options
        ],
    }
