"""Where the progress of a run goes: a bar in a notebook or on a terminal, the caller's own function, or nowhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from skyfan.events import Listener


@contextmanager
def listening(progress: bool | Listener) -> Iterator[Listener]:
    """The listener for `progress`: True shows a bar, False nothing; a function is given every event itself."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _event: None
    elif _in_notebook():
        from skyfan.progress.notebook import NotebookProgress

        with NotebookProgress() as shown:
            yield shown
    else:
        from rich.console import Console

        from skyfan.progress.terminal import TerminalProgress

        console = Console(stderr=True)
        with TerminalProgress(console, lambda line: console.print(line, markup=False, highlight=False)) as bar:
            yield bar


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell else None
    return found is not None and hasattr(found, "kernel")
