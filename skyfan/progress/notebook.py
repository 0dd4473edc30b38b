"""A run in a notebook: one line that is replaced, so that the output does not flood."""

import html
import time
from typing import Self

from IPython.display import HTML, DisplayHandle, display

from skyfan.events import Event, ExecutionStarted, RankFailed, RankRetried, Warned
from skyfan.progress.state import RunState

_SHOWN_EVERY_S = 0.5
_MAX_TROUBLES = 5


class NotebookProgress:
    """Listens to a run's events; shows a bar with one line of text, and the last few troubles below it."""

    def __init__(self) -> None:
        self._state = RunState()
        self._troubles: list[str] = []
        self._shown_s = 0.0
        self._handle: DisplayHandle | None = None

    def __enter__(self) -> Self:
        self._handle = display(HTML(""), display_id=True)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        self._show()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        self._state.update(event)
        match event:
            case Warned(sentence):
                self._troubles.append(sentence)
            case RankRetried(rank, attempt, _, error):
                self._troubles.append(f"rank {rank}, attempt {attempt}: {error}")
            case RankFailed(rank, error):
                self._troubles.append(f"rank {rank} failed: {error}")
            case ExecutionStarted(name, _, _):
                self._troubles.append(f"execution {name}")
        if time.monotonic() - self._shown_s >= _SHOWN_EVERY_S:
            self._show()

    def _show(self) -> None:
        if self._handle is None:
            return
        self._shown_s = time.monotonic()
        state = self._state
        bar = f'<progress max="{max(1, state.samples)}" value="{state.samples_done}"></progress>'
        troubles = "".join(f"<br>{html.escape(trouble)}" for trouble in self._troubles[-_MAX_TROUBLES:])
        self._handle.update(HTML(f"{bar} {html.escape(state.line())}{troubles}"))  # type: ignore[no-untyped-call]
