"""A run as the user watches it: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skyfan.cli.console import err, say
from skyfan.events import (
    Event,
    MapProgress,
    PhaseStarted,
    Planned,
    RankCommitted,
    RankFailed,
    RankProgress,
    RankRetried,
)
from skyfan.units import counted, format_duration, format_size

LINE_EVERY_S = 5.0


class RunProgress:
    """Listens to a run's events. With `quiet` only what went wrong is shown."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = err.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=quiet or not self._terminal,
        )
        self._task = self._bars.add_task("starting", total=None, rate="")
        self._done: dict[int, int] = {}
        self._committed = 0
        self._ranks = 0
        self._total = 0
        self._reused = 0
        self._started = time.monotonic()
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        match event:
            case PhaseStarted(name):
                self._bars.update(self._task, description=name)
            case Planned(plan, reused):
                self._ranks = plan.ranks
                self._committed = len(plan.committed_ranks)
                self._total, self._reused = plan.samples, reused
                self._started = time.monotonic()
                self._bars.update(self._task, total=plan.samples, completed=reused)
                again = f", {self._committed:,} reused" if self._committed else ""
                self._line(
                    f"run {plan.run_id}: {plan.samples:,} samples, {format_size(plan.data_bytes)}, "
                    f"{counted(plan.partitions, 'partition')}, {counted(plan.ranks, 'rank')}{again}"
                )
            case RankProgress(rank, done, _):
                self._done[rank] = done
                self._advance()
            case RankCommitted(rank, record):
                self._done[rank] = record.samples
                self._committed += 1
                self._advance()
            case RankRetried(rank, attempt, delay_s, error):
                self._done.pop(rank, None)
                self._line(f"rank {rank}, attempt {attempt}: {error} Again in {delay_s:.1f} s.", always=True)
            case RankFailed(rank, error):
                self._done.pop(rank, None)
                self._line(f"rank {rank} failed: {error}", always=True)
            case MapProgress():
                self._show_map(event)

    def stop(self) -> None:
        """Takes the bar away, so that the user can be asked something."""
        self._bars.stop()

    def _advance(self) -> None:
        fresh = sum(self._done.values())
        elapsed_s = time.monotonic() - self._started
        rate = f"{fresh / elapsed_s:,.0f} samples/s" if elapsed_s > 0 else ""
        self._bars.update(
            self._task,
            completed=self._reused + fresh,
            description=f"ranks {self._committed}/{self._ranks}",
            rate=rate,
        )
        if not self._terminal and time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._line(f"ranks {self._committed}/{self._ranks}, {self._reused + fresh:,} of {self._total:,}, {rate}")

    def _show_map(self, counts: MapProgress) -> None:
        """Samples are reckoned from the ranks that ended: ranks of a plan are about equally large."""
        ended, left = counts.succeeded + counts.failed, counts.pending + counts.running
        to_run, elapsed_s = self._total - self._reused, time.monotonic() - self._started
        fresh = to_run * counts.succeeded // max(1, ended + left)
        failed = f", {counts.failed} failed" if counts.failed else ""
        ranks = f"ranks {self._committed + counts.succeeded}/{self._ranks} ({counts.running} running{failed})"
        rate = f"{fresh / elapsed_s:,.0f} samples/s, ${counts.cost_usd:.4f}" if fresh else f"${counts.cost_usd:.4f}"
        self._bars.update(self._task, completed=self._reused + fresh, description=ranks, rate=rate)
        if not self._terminal and (time.monotonic() - self._last_line > LINE_EVERY_S or not left):
            self._last_line = time.monotonic()
            time_left = f", {format_duration(elapsed_s / ended * left)} left" if ended and left else ""
            self._line(f"{ranks}, {counts.pending} pending, {rate} so far{time_left}")

    def _line(self, sentence: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            say(sentence)
