"""Tables that commands print."""

from rich.table import Table

from skyfan.progress.summary_rows import summary_rows
from skyfan.records import Summary


def summary_table(summary: Summary) -> Table:
    """What a run computed, what it took and how good it is."""
    table = Table(title=f"run {summary.run_id}: {summary.state}", show_header=False, title_justify="left")
    for row in summary_rows(summary):
        table.add_row(*row)
    return table
