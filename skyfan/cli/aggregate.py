"""`skyfan aggregate`: the end of a run whose ranks a scheduler started."""

from typing import Annotated

import typer

from skyfan.cli import options
from skyfan.cli.console import configure_logs
from skyfan.cli.run import show


def aggregate(
    output: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a planned run (path or URI).")],
    start: options.Start = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Account for every rank of a run that `skyfan plan --write` has planned: summary, report, reasons of failures.

    Exit codes as of `skyfan run`: 0 complete, 2 bad input, 3 samples missing, 4 more ranks failed than tolerated.
    """
    # Draws with matplotlib, which other commands do not need.
    from skyfan.backends.arrays import aggregate_array

    configure_logs()
    show(aggregate_array(output, start), as_json=as_json, quiet=quiet)
