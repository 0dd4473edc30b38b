"""The two streams of every command: results on standard output, everything else on standard error.

Names of files, tensors and weights, and the texts of errors, come from others. They are printed by these consoles
only, which show every character that is not printable as an escape: nothing in a name reaches the terminal as an
instruction.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import structlog
from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table

from skyfan import logs
from skyfan.events import Progress as Advance
from skyfan.events import unwatched
from skyfan.plain_text import printable


class PlainConsole(Console):
    """A console that prints text as text; its own colours and cursor movements stay what they are."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, their texts made printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep="\n"))


out = PlainConsole(soft_wrap=True)
err = PlainConsole(stderr=True)


_PIPED_WIDTH = 160


def show_table(table: Table) -> None:
    """Prints on standard output; a file or pipe has no width of its own, unless COLUMNS gives one."""
    console = out if out.is_terminal or "COLUMNS" in os.environ else PlainConsole(width=_PIPED_WIDTH)
    console.print(table)


def print_json(value: Any) -> None:
    """Machine-readable result, plain, whatever the terminal is; models, dataclasses and times may be in it."""
    out.print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def configure_logs() -> None:
    """Logs of a command that works in this process: only what went wrong, unless all output is to be a log."""
    logs.configure("driver", level=None if logs.as_json() else "warning")


def say(sentence: str) -> None:
    """One line for the user, on standard error; a line of the log where logs are asked to be JSON."""
    if not logs.as_json():
        err.print(printable(sentence), soft_wrap=True)
        return
    if not structlog.is_configured():
        logs.configure("driver")
    structlog.get_logger().info(sentence)


@contextmanager
def progress_bar(description: str, quiet: bool, *, in_bytes: bool = False) -> Iterator[Advance]:
    """A bar on standard error that its callback (done, all) moves; gone when done. In a log or file its name is all."""
    if logs.as_json() or not err.is_terminal:
        if not quiet:
            say(description)
        yield unwatched
        return
    amounts = (DownloadColumn(binary_units=True), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    text = TextColumn("{task.description}")
    with Progress(
        text, BarColumn(), *amounts, TimeRemainingColumn(), console=err, transient=True, disable=quiet
    ) as bar:
        task = bar.add_task(escape(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
