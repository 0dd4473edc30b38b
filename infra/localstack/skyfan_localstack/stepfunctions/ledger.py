"""The account of a map run's children: who is pending, running, done, and how it ended.

AWS: "DescribeMapRun", https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeMapRun.html
(as of 2026-11): every child is pending, running, succeeded, failed, timedOut or aborted, and they add up to total.
"""

import threading
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501
    MapRunRecord,
)


class Status(StrEnum):
    """How a child execution stands; the values are AWS's."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    ABORTED = "ABORTED"


@dataclass(slots=True)
class Child:
    """One child execution; `item` until it starts, then what ItemSelector made of it."""

    input: Any
    status: Status = Status.PENDING
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    output: Any = None
    error: str | None = None
    cause: str | None = None


class Ledger:
    """Keeps `MapRunRecord`'s counters true while threads start and finish children."""

    def __init__(self, record: MapRunRecord, items: list[Any]) -> None:
        self.record = record
        self.children = [Child(item) for item in items]
        self._lock = threading.Lock()
        self._count(total=len(items), pending=len(items))
        _LEDGERS[record] = self

    def start(self, index: int) -> None:
        """The child leaves the queue."""
        with self._lock:
            child = self.children[index]
            child.status, child.started_at = Status.RUNNING, datetime.now(UTC)
            self._count(pending=-1, running=1)

    def finish(
        self, index: int, status: Status, *, output: Any = None, error: str | None = None, cause: str | None = None
    ) -> None:
        """The child has ended; one that was aborted meanwhile stays so."""
        with self._lock:
            child = self.children[index]
            if child.status is not Status.RUNNING:
                return
            child.status, child.stopped_at = status, datetime.now(UTC)
            child.output, child.error, child.cause = output, error, cause
            self._count(running=-1, **{status.value.lower(): 1})

    def abort_running(self) -> None:
        """The map has ended before them."""
        for index, child in enumerate(self.children):
            if child.status is Status.RUNNING:
                self.finish(index, Status.ABORTED)

    def all_ended(self) -> bool:
        """Whether every child has ended."""
        counter = self.record.execution_counter
        return not counter.pending.get() and not counter.running.get()

    def failed(self) -> int:
        """Children that count against the tolerance."""
        counter = self.record.item_counter
        return int(counter.failed.get() + counter.timed_out.get())

    def results_written(self, number: int) -> None:
        """ResultWriter has written this many results."""
        self._count(results_written=number)

    def _count(self, **changes: int) -> None:
        for counter in (self.record.item_counter, self.record.execution_counter):
            for name, change in changes.items():
                getattr(counter, name).offset(change)


_LEDGERS: "weakref.WeakKeyDictionary[MapRunRecord, Ledger]" = weakref.WeakKeyDictionary()


def ledger_of(record: MapRunRecord) -> Ledger | None:
    """The account of a map run; None before its items were read."""
    return _LEDGERS.get(record)
