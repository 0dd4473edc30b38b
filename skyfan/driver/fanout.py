"""Bounded fan-out: so many items at once, retries, a tolerated share of failures."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from skyfan.driver.events import Listener, RankCommitted, RankFailed, RankRetried
from skyfan.driver.policy import RetryPolicy, exceeds_tolerance
from skyfan.errors import SkyfanError
from skyfan.plan import PlanItem
from skyfan.records import RankRecord

Call = Callable[[PlanItem, int], Awaitable[RankRecord]]
"""Computes an item in its attempt number (1, 2, …); keeps its own deadline."""


@dataclass
class FanOut:
    """One fan-out, its limits, and what came of it."""

    call: Call
    total: int
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
        return exceeds_tolerance(len(self.failures), self.total, self.tolerated_failure_percentage)

    async def run(self, items: Iterable[PlanItem]) -> None:
        """Works through the items; stops early when more have failed than are tolerated."""
        source = iter(items)
        workers = [asyncio.create_task(self._worker(source)) for _ in range(min(self.concurrency, self.total))]
        try:
            for finished in asyncio.as_completed(workers):
                await finished
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
                record = await self.call(item, attempt)
            except SkyfanError as error:
                if not self.policy.again(error, attempt):
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
