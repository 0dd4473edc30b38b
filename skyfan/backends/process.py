"""Everything in this process, one rank after the other: the baseline that the fan-out is compared with."""

import asyncio

from skyfan.backends.base import Target
from skyfan.engines.device import available_device
from skyfan.engines.threads import available_threads
from skyfan.events import Listener, RankProgress
from skyfan.records import RankRecord, Summary
from skyfan.stages import aggregate as aggregator
from skyfan.stages import infer as executor
from skyfan.stages import plan as partitioner
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.stages.infer_messages import InferRequest, PreparedModel, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan_messages import PlanReply, PlanRequest


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
