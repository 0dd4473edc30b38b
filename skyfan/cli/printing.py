"""Printing wide tables: to the terminal's width there, one line a row into a file or pipe."""

import os

from rich.table import Table

from skyfan.cli.console import PlainConsole, out

_PIPED_WIDTH = 160


def show_table(table: Table) -> None:
    """Prints on standard output; a file or pipe has no width of its own, unless COLUMNS gives one."""
    console = out if out.is_terminal or "COLUMNS" in os.environ else PlainConsole(width=_PIPED_WIDTH)
    console.print(table)
