"""`skyfan analyse`: the reference system's tables from its records, and the true numbers beside them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from skyfan import store
from skyfan.cli import options
from skyfan.cli.console import out, print_json, say, show_table
from skyfan.cost import load_prices
from skyfan.studies.published.analysis import Analysis, analyse
from skyfan.studies.published.cluster_results import ClusterResult
from skyfan.studies.published.corrected import Configuration, Corrected
from skyfan.studies.published.published_tables import Cell, Row
from skyfan.studies.published.table_check import TableCheck
from skyfan.studies.text_tables import write_csv
from skyfan.units import counted, format_duration, format_size

_SHOWN_FLAGS = 5
_WIDTH = 80
# Headings that fit a terminal; CSV and JSON keep the published names.
_SHORT = {
    "partition (MB)": "MB",
    "data (GB)": "GB",
    "batch_size": "batch",
    "total_cpu_time (seconds)": "CPU s",
    "total_cpu_memory (MB)": "memory MB",
    "throughput_bps": "bit/s",
    "total_bits": "bits",
    "s3_total_time": "S3 s",
    "s3_avg_time": "avg",
    "s3_min_time": "min",
    "s3_max_time": "max",
    "total_duration (s)": "wall s",
    "inference_duration (s)": "map s",
}


def analyse_command(
    path: Annotated[str, typer.Argument(help="A run's folder, or a folder of runs (any URI).", metavar="PATH")],
    as_json: options.Json = False,
    output: Annotated[Path | None, typer.Option(help="Also write each table as a CSV file here.")] = None,
    region: options.Region = "us-east-1",
    prices: options.Prices = None,
    full: Annotated[bool, typer.Option("--full", help="All tables, with a row for each run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages on standard error.")] = False,
) -> None:
    """Print how complete and how fast the runs truly were; with --full the published tables and every run, too."""
    analysis = analyse(path, load_prices(prices), region)
    if output:
        for name, rows in analysis.tables.items():
            stem = name.removesuffix(".csv").replace(", ", "-").replace(" ", "_")
            store.put(str(output / f"{stem}.csv"), write_csv(rows).encode())
    if as_json:
        print_json(analysis.to_json_dict())
        return
    if full:
        _print_full(analysis)
    else:
        _print_summary(analysis)
    if not quiet and analysis.corrected and not analysis.incomplete:
        say("All runs are complete.")


def _print_summary(analysis: Analysis) -> None:
    rows = analysis.corrected
    complete = sum(row.complete is True for row in rows)
    state = f"{complete} complete, {len(analysis.incomplete)} incomplete"
    if unknown := len(rows) - complete - len(analysis.incomplete):
        state += f", {unknown} of unknown size"
    samples, size_bytes = sum(row.samples for row in rows), round(sum(row.bits for row in rows) / 8)
    if rows:
        out.print(f"{counted(len(rows), 'run')}: {state}")
        out.print(f"{samples:,} samples, {format_size(size_bytes)} of tensors")
    if costs := [row.cost_usd for row in rows if row.cost_usd is not None]:
        out.print(f"cost as Lambda bills: {_usd(sum(costs))} for {counted(len(costs), 'run')}")
    for check in analysis.checks:
        _print_wrapped(_verdict(check))
    if analysis.clusters:
        show_table(_cluster_table(analysis.clusters))
    if analysis.configurations:
        show_table(_configuration_table(analysis.configurations))
    flags = [f"{row.run}: {flag}" for row in rows for flag in row.flags]
    for flag in flags[:_SHOWN_FLAGS]:
        _print_wrapped(f"! {flag}")
    hidden = f"{len(flags) - _SHOWN_FLAGS} more remarks, " if len(flags) > _SHOWN_FLAGS else ""
    out.print(f"{hidden}every run and the published tables: --full")


def _print_wrapped(text: str) -> None:
    for line in text.splitlines():
        out.print(textwrap.fill(line, _WIDTH, subsequent_indent="  "))


def _print_full(analysis: Analysis) -> None:
    for name, rows in analysis.tables.items():
        show_table(_table(name, rows))
    for check in analysis.checks:
        _print_wrapped(_verdict(check))
    if analysis.clusters:
        show_table(_cluster_table(analysis.clusters))
    if analysis.corrected:
        show_table(_corrected_table(analysis.corrected))
    if analysis.configurations:
        show_table(_configuration_table(analysis.configurations))
    for row in analysis.corrected:
        for flag in row.flags:
            _print_wrapped(f"! {row.run}: {flag}")


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in rows[0]:
        table.add_column(_SHORT.get(column, column), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()), style="bold" if row.get("run") == "mean" else None)
    return table


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _verdict(check: TableCheck) -> str:
    there = check.printed_rows - len(check.without_run)
    text = f"{check.table}: {check.reproduced_rows} of {there} rows reproduced to the printed digits"
    if check.without_run:
        text += f"; {len(check.without_run)} more have no run here"
    for difference in check.differences:
        text += f"\n  differs: {difference.row}, {difference.column}: {difference.printed} ≠ {difference.computed}"
    return text


def _corrected_table(rows: Sequence[Corrected]) -> Table:
    title = "By true definitions: bits ÷ wall time beside the sum over ranks\nthat was published; cost as Lambda bills"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    for name in ("ranks", "wall", "Σ ranks Gbit/s", "true Gbit/s", "by map", "samples/s", "cost", "at most"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        planned = "?" if row.ranks_planned is None else f"{row.ranks_planned:,}"
        table.add_row(
            row.run,
            f"{row.ranks_present:,} of {planned}",
            format_duration(row.wall_s) if row.wall_s else "",
            _gbit(row.published_bps),
            _gbit(row.wall_bps),
            _gbit(row.map_bps),
            f"{row.samples_per_s_wall:,.0f}" if row.samples_per_s_wall else "",
            _usd(row.cost_usd),
            _usd(row.cost_at_most_usd),
            style="yellow" if row.complete is False else None,
        )
    return table


def _cluster_table(rows: Sequence[ClusterResult]) -> Table:
    title = "Clusters: the published sum of the jobs' rates beside samples ÷ wall time\n(median of the runs)"
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    table.add_column("where", overflow="fold")
    for name in ("data", "tasks", "runs", "wall", "published\nsamples/s", "true\nsamples/s", "over-\nstated"):
        table.add_column(name, justify="right")
    for row in rows:
        published, overstated = row.published_samples_per_s, row.overstated
        table.add_row(
            row.where,
            f"{row.data_gb:g} GB",
            f"{row.tasks:,}",
            f"{row.runs}",
            format_duration(row.wall_s),
            "" if published is None else f"{published:,.0f}",
            f"{row.samples_per_s:,.0f}",
            "" if overstated is None else f"{overstated:.1f}×",
        )
    return table


def _configuration_table(rows: Sequence[Configuration]) -> Table:
    title = "Published against true throughput in Gbit/s, complete runs only"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("partition", "data", "runs", "published", "true", "overstated"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row.partition_mb} MB",
            f"{row.data_gb:g} GB",
            f"{row.complete_runs} of {row.runs}",
            _gbit(row.published_bps),
            _gbit(row.wall_bps),
            f"{row.overstated:.1f}×",
        )
    return table


def _gbit(bits_per_s: float | None) -> str:
    return f"{bits_per_s / 1e9:.3g}" if bits_per_s else ""


def _usd(amount: float | None) -> str:
    return f"${amount:,.3g}" if amount is not None else ""
