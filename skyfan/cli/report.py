"""`skyfan report`: the tables and the page of a run or a study again, from what is in its folder."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import skyfan
from skyfan import store
from skyfan.cli import options
from skyfan.cli.console import out, print_json, say, show_table
from skyfan.cli.run import show
from skyfan.cost import load_prices
from skyfan.progress.two_runs import compare, same_work
from skyfan.studies.bench.measurements import STUDY_FILE, read_measurements


def report(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The folder of a run or a study (path or URI).")],
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another run's folder: both side by side, nothing written.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="Another price file, for a study's costs.")] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Print a run's summary or a study's tables, and write the report page again; or put two runs side by side."""
    if other is not None:
        _compare(output, other, quiet=quiet, as_json=as_json)
    elif store.exists(store.join(output, STUDY_FILE)):
        _report_study(output, prices, quiet=quiet, as_json=as_json)
    else:
        show(skyfan.open_run(output).write_report(), as_json=as_json, quiet=quiet)


def _compare(output: str, other: str, *, quiet: bool, as_json: bool) -> None:
    summaries = [skyfan.open_run(each).summary for each in (output, other)]
    rows = compare(*summaries)
    if as_json:
        runs = [{"output": one.output, "run_id": one.run_id, "target": one.target} for one in summaries]
        print_json({"schema": "skyfan.comparison/1", "runs": runs, "rows": rows})
    elif not quiet:
        table = Table("", title=same_work(*summaries), title_justify="left")
        for one in summaries:
            table.add_column(f"{one.output}\n({one.target})", overflow="fold")
        table.add_column("ratio", no_wrap=True)
        for row in rows:
            table.add_row(row.metric, row.shown[0], row.shown[1], "" if row.ratio is None else f"{row.ratio:.3g}")
        out.print(table)


def _report_study(folder: str, prices: Path | None, *, quiet: bool, as_json: bool) -> None:
    from skyfan.studies.bench.study_report import cell, study_tables, write_report

    listed = load_prices(prices)
    page = write_report(folder, listed)
    found = study_tables(read_measurements(folder), listed)
    if as_json:
        print_json({"schema": "skyfan.study-report/1", "report": page, "tables": {t.name: t.rows for t in found}})
        return
    if quiet:
        return
    for one in found:
        table = Table(*one.rows[0], title=one.title, title_justify="left", caption=one.note or None)
        for row in one.rows:
            table.add_row(*(cell(value) for value in row.values()))
        show_table(table)
    say(f"report: {page}")
