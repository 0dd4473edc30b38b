"""A run in a log: one structured line an event, for containers and the tools that collect their logs."""

import time
from dataclasses import asdict
from typing import Self

import structlog

from skyfan.events import (
    Event,
    ExecutionStarted,
    FilesRead,
    MapProgress,
    PhaseStarted,
    Planned,
    RankCommitted,
    RankFailed,
    RankProgress,
    RankRetried,
    Warned,
)
from skyfan.progress.state import RunState

LINE_EVERY_S = 2.0


class LogProgress:
    """Listens to a run's events. Progress within ranks is logged every two seconds, everything else as it comes."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._state = RunState()
        self._last_line_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take away: a log stays."""

    stop = __exit__

    def __call__(self, event: Event) -> None:
        """Logs one event."""
        state = self._state
        state.update(event)
        match event:
            case PhaseStarted(name):
                self._log.info(name)
            case ExecutionStarted():
                self._log.info("execution started", **asdict(event))
            case Warned(sentence):
                self._log.warning(sentence)
            case Planned(plan, committed):
                self._log.info(
                    "planned",
                    samples=plan.samples,
                    data_bytes=plan.data_bytes,
                    partitions=plan.partitions,
                    rank_bytes=plan.rank_bytes,
                    ranks=state.ranks,
                    reused_ranks=len(committed),
                    reused_samples=state.reused_samples,
                )
            case FilesRead(done, total):
                self._every_line_s(files_read=done, files=total)
            case RankProgress():
                self._every_line_s(ranks_done=state.ranks_done, ranks=state.ranks, samples_done=state.fresh_samples)
            case RankCommitted(rank, record):
                self._log.info(
                    "rank done",
                    rank=rank,
                    ranks_done=state.ranks_done,
                    ranks=state.ranks,
                    attempt=record.attempt,
                    host=record.host,
                    wall_s=round(record.wall_s, 3),
                )
            case RankRetried(rank, attempt, delay_s, error):
                self._log.warning("rank lost", rank=rank, attempt=attempt, again_in_s=round(delay_s, 1), error=error)
            case RankFailed(rank, error):
                self._log.error("rank failed", rank=rank, error=error)
            case MapProgress():
                self._log.info("progress", **asdict(event))

    def _every_line_s(self, **counts: int | None) -> None:
        if time.monotonic() - self._last_line_s > LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            self._log.info("progress", **counts)
