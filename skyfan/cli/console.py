"""The two streams of every command: results on standard output, everything else on standard error."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from rich.console import Console
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

from skyfan import logs

out = Console(soft_wrap=True)
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """Machine-readable result, plain, whatever the terminal is."""
    out.print(json.dumps(value, indent=2), markup=False, highlight=False)


def say(sentence: str) -> None:
    """One line for the user, on standard error; a line of the log where logs are asked to be JSON."""
    if not logs.as_json():
        err.print(sentence, markup=False, highlight=False, soft_wrap=True)
        return
    if not structlog.is_configured():
        logs.configure("driver")
    structlog.get_logger().info(sentence)


@contextmanager
def progress_bar(description: str, quiet: bool, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that its callback (done, all) moves; gone when done. In a log or file its name is all."""
    if logs.as_json() or not err.is_terminal:
        if not quiet:
            say(description)
        yield lambda _done, _total: None
        return
    amounts = (DownloadColumn(binary_units=True), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    text = TextColumn("{task.description}")
    with Progress(
        text, BarColumn(), *amounts, TimeRemainingColumn(), console=err, transient=True, disable=quiet
    ) as bar:
        task = bar.add_task(escape(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
