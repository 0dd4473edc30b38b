"""Everything in this process, one rank after the other: the baseline that the fan-out is compared with."""

import asyncio

from services.aggregator import core as aggregator
from services.aggregator.requests import AggregateRequest
from services.executor import core as executor
from services.executor.device import available_device
from services.executor.model_cache import ModelCache
from services.executor.requests import InferRequest, PreparedModel, PrepareRequest
from services.executor.threads import available_threads
from services.partitioner import core as partitioner
from services.partitioner.requests import PlanReply, PlanRequest
from skyfan.driver.events import Listener, RankProgress
from skyfan.driver.targets.base import Target
from skyfan.records import RankRecord, Summary


class ProcessTarget(Target):
    """Calls the services' cores directly. Work runs on a thread, so that Ctrl-C and progress get through."""

    name = "process"
    concurrency = 1
    more_at_once = "use --on local --workers {ranks}"

    def __init__(self, device: str | None = None) -> None:
        self._models = ModelCache(threads=available_threads(), device=available_device(device))

    async def prepare(self, request: PrepareRequest) -> PreparedModel:
        """As the executor does."""
        return await asyncio.to_thread(executor.prepare, request, self._models)

    async def plan(self, request: PlanRequest) -> PlanReply:
        """As the partitioner does."""
        return await asyncio.to_thread(partitioner.plan, request)

    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """As the executor does; when cancelled, the thread ends at the next batch."""
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            loop.call_soon_threadsafe(listener, RankProgress(request.item.rank, done, total))

        control = executor.Control(progress=progress)
        work = asyncio.create_task(asyncio.to_thread(executor.infer, request, self._models, control))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            control.cancelled.set()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def aggregate(self, request: AggregateRequest) -> Summary:
        """As the aggregator does."""
        return await asyncio.to_thread(aggregator.aggregate, request)
