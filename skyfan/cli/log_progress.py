"""A run as a log tells it: one structured line an event, for containers and whoever collects their logs."""

import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

import structlog

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

LINE_EVERY_S = 5.0


class LogProgress:
    """Listens to a run's events. Progress within ranks is told every few seconds, everything else as it comes."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._done: dict[int, int] = {}
        self._samples = 0
        self._ranks = 0
        self._committed = 0
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Logs one event."""
        match event:
            case PhaseStarted(name):
                self._log.info(name)
            case Planned(plan, reused):
                self._samples, self._ranks, self._committed = plan.samples, plan.ranks, len(plan.committed_ranks)
                self._log.info(
                    "planned",
                    samples=plan.samples,
                    data_bytes=plan.data_bytes,
                    partitions=plan.partitions,
                    ranks=plan.ranks,
                    reused_ranks=self._committed,
                    reused_samples=reused,
                )
            case RankProgress(rank, done, _):
                self._done[rank] = done
                self._progress()
            case RankCommitted(rank, record):
                self._done[rank] = record.samples
                self._committed += 1
                self._log.info(
                    "rank done",
                    rank=rank,
                    ranks_done=self._committed,
                    ranks=self._ranks,
                    attempt=record.attempt,
                    host=record.host,
                    wall_s=round(record.wall_s, 3),
                )
            case RankRetried(rank, attempt, delay_s, error):
                self._done.pop(rank, None)
                self._log.warning("rank lost", rank=rank, attempt=attempt, again_in_s=round(delay_s, 1), error=error)
            case RankFailed(rank, error):
                self._done.pop(rank, None)
                self._log.error("rank failed", rank=rank, error=error)
            case MapProgress():
                self._log.info("progress", **asdict(event))

    def stop(self) -> None:
        """Nothing to take away: a log stays."""

    def _progress(self) -> None:
        if time.monotonic() - self._last_line > LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._log.info(
                "progress", ranks_done=self._committed, ranks=self._ranks, samples_done=sum(self._done.values())
            )
