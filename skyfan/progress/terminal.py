"""A run on a terminal: a bar that moves. Where no terminal is: a line, at least every two seconds."""

import threading
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from skyfan.events import Event, ExecutionStarted, FilesRead, PhaseStarted, Planned, RankFailed, RankRetried, Warned
from skyfan.progress.state import RunState, plan_sentence

LINE_EVERY_S = 2.0


class TerminalProgress:
    """Listens to a run's events. With `quiet` only what went wrong is shown.

    `say` prints one line; a heartbeat repeats the state when nothing else has been printed for two seconds.
    """

    def __init__(self, console: Console, say: Callable[[str], None], *, quiet: bool = False) -> None:
        self._say, self._quiet = say, quiet
        self._lines = not quiet and (not console.is_terminal or console.is_dumb_terminal)
        self._state = RunState()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            transient=True,
            disable=quiet or self._lines,
        )
        self._task = self._bars.add_task("starting", total=None, rate="")
        self._last_line_s = time.monotonic()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        if self._lines:
            self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar away, so that the user can be asked something."""
        self._ended.set()
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        self._state.update(event)
        match event:
            case PhaseStarted("aggregating") if self._lines and self._state.ranks:
                self._print(self._state.ranks_line() + self._state.rate_line())  # where the ranks ended
            case PhaseStarted() | FilesRead():
                self._bars.update(self._task, description=self._state.phase_line())
            case Planned(plan, _):
                self._bars.update(self._task, total=plan.samples)
                self._print(plan_sentence(event))
            case ExecutionStarted(name, _, console_url):
                self._print(f"execution {name}")
                if console_url:
                    self._print(console_url)
            case Warned(sentence):
                self._say(f"warning: {sentence}")
            case RankRetried(rank, attempt, delay_s, error):
                self._say(f"rank {rank}, attempt {attempt}: {error} Again in {delay_s:.1f} s.")
            case RankFailed(rank, error):
                self._say(f"rank {rank} failed: {error}")
            case _:
                self._advance()

    def _advance(self) -> None:
        state = self._state
        self._bars.update(
            self._task,
            completed=state.samples_done,
            description=state.ranks_line(),
            rate=state.rate_line().removeprefix(", "),
        )

    def _print(self, sentence: str) -> None:
        if not self._quiet:
            self._last_line_s = time.monotonic()
            self._say(sentence)

    def _beat(self) -> None:
        while not self._ended.wait(0.2):
            if time.monotonic() - self._last_line_s >= LINE_EVERY_S:
                self._print(self._state.line())
