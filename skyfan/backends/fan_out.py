"""Bounded fan-out: a limit of items at once, retries, a tolerated share of failures."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from skyfan.aws_limits import LAMBDA_TIMEOUT_S
from skyfan.backends.retry_policy import RetryPolicy, exceeds_tolerance
from skyfan.errors import Busy, SkyfanError
from skyfan.events import Listener, RankCommitted, RankFailed, RankRetried
from skyfan.planning import PlanItem
from skyfan.records import RankRecord

# As long as a rank may take: then the rank that occupies the worker has ended.
BUSY_DEADLINE_S = float(LAMBDA_TIMEOUT_S)
BUSY_INTERVAL_S = 1.0

T = TypeVar("T")
Call = Callable[[PlanItem, int], Awaitable[RankRecord]]
"""Computes an item in its attempt number (1, 2, …); keeps its own deadline."""


@dataclass
class FanOut:
    """One fan-out, its limits, and what came of it."""

    call: Call
    total: int
    planned: int
    """Items of the whole run, of which failures are a percentage; `total` are those of this start."""
    concurrency: int
    listener: Listener
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    tolerated_failure_percentage: float = 0.0
    rng: random.Random = field(default_factory=random.Random)
    failures: dict[int, SkyfanError] = field(default_factory=dict)
    attempts: int = 0

    @property
    def failed(self) -> bool:
        """More items failed than are tolerated."""
        return exceeds_tolerance(len(self.failures), self.planned, self.tolerated_failure_percentage)

    async def run(self, items: Iterable[PlanItem]) -> None:
        """Works through the items; when more have failed than are tolerated, those in flight are cancelled."""
        source = iter(items)
        workers = [asyncio.create_task(self._worker(source)) for _ in range(min(self.concurrency, self.total))]
        try:
            for finished in asyncio.as_completed(workers):
                await finished
                if self.failed:
                    return
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, source: Iterator[PlanItem]) -> None:
        for item in source:
            await self._attempts(item)
            if self.failed:
                return

    async def _attempts(self, item: PlanItem) -> None:
        attempt = 1
        while not self.failed:
            self.attempts += 1
            try:
                record = await when_free(partial(self.call, item, attempt), BUSY_DEADLINE_S, self.rng)
            except Exception as caught:  # noqa: BLE001 (whatever it is, it is this rank's failure and not the run's)
                error = caught if isinstance(caught, SkyfanError) else _unexpected(caught)
                if not self.policy.should_retry(error, attempt):
                    self.failures[item.rank] = error
                    self.listener(RankFailed(item.rank, str(error)))
                    return
                delay_s = self.policy.delay_s(attempt, self.rng)
                self.listener(RankRetried(item.rank, attempt, delay_s, str(error)))
                await asyncio.sleep(delay_s)
                attempt += 1
            else:
                self.listener(RankCommitted(item.rank, record))
                return


async def when_free(call: Callable[[], Awaitable[T]], deadline_s: float, rng: random.Random) -> T:
    """Calls until a worker takes it, for so long; being told that it is busy is not an attempt."""
    patient_until = time.monotonic() + deadline_s
    while True:
        try:
            return await call()
        except Busy:
            if time.monotonic() > patient_until:
                raise
            await asyncio.sleep(rng.uniform(0.5, 1.5) * BUSY_INTERVAL_S)


def _unexpected(error: Exception) -> SkyfanError:
    """A fault of Skyfan's own as an error that counts for one rank; its traceback is in the log."""
    structlog.get_logger("driver").error("unexpected error of a rank", exc_info=error)
    return SkyfanError(f"unexpected {type(error).__name__}: {error}")
