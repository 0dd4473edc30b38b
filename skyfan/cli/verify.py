"""`skyfan verify`: are the results still what the run computed?"""

from typing import Annotated

import typer
from rich.table import Table

import skyfan
from skyfan.cli import options
from skyfan.cli.console import out, print_json, say
from skyfan.errors import Incomplete, Mismatch
from skyfan.plain_text import printable
from skyfan.units import counted


def verify(
    output: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run (path or URI).")],
    samples: Annotated[int, typer.Option(min=0, help="Random samples to compute again.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Which samples.")] = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Check a run's results against its plan, digests and model, and compute some samples again.

    Exit codes: 0 all is right, 2 bad input, 3 ranks are missing and the others are right, 4 something differs.
    """
    found = skyfan.open_run(output).verify(samples=samples, seed=seed)
    if as_json:
        print_json(found.to_json_dict())
    elif not quiet:
        table = Table(title=f"run {found.run_id}", show_header=False, title_justify="left")
        table.add_row("files read", f"{counted(found.ranks, 'rank')}, {found.rows:,} rows")
        table.add_row("digests compared", counted(found.columns, "column"))
        if found.engine:
            table.add_row("computed again", f"{counted(found.samples, 'sample')} with {found.engine}")
            table.add_row("  the run's engine", found.run_engine)
            table.add_row("  largest deviation", f"{found.largest_deviation:.1e} (allowed {found.tolerance:.1e})")
        if found.not_computed:
            table.add_row("computed again", f"nothing: {found.not_computed}")
        table.add_row("problems", f"{found.problems:,}")
        out.print(table)
    for one in found.findings:
        say(printable(f"{one.where}: {one.what}"))
    if found.only_missing:
        raise Incomplete(f"{counted(found.problems, 'rank')} missing; run the same skyfan run command again.")
    if not found.ok:
        raise Mismatch(f"{counted(found.problems, 'problem')} found in {output}.")
