"""Everything in this process, one rank after the other: the baseline that the fan-out is compared with."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from skyfan import store
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.engines.device import available_device
from skyfan.engines.threads import available_threads
from skyfan.events import Listener, RankProgress
from skyfan.job import Job
from skyfan.records import RankRecord, Summary
from skyfan.stages.aggregate import aggregate
from skyfan.stages.infer import Control, infer
from skyfan.stages.messages import (
    AggregateRequest,
    ConvertRequest,
    InferRequest,
    ModelFile,
    PlanReply,
    PlanRequest,
    PreparedModel,
    PrepareRequest,
)
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare

P = ParamSpec("P")
T = TypeVar("T")


class ProcessServices(Services):
    """Calls the stages directly. Work runs on a thread, so that Ctrl-C and progress get through."""

    name = "process"
    concurrency = 1
    scale_up_hint = "use --on local --workers {ranks}"

    def __init__(self, device: str | None = None) -> None:
        self._models = ModelCache(threads=available_threads(), device=available_device(device))

    async def prepare(self, request: PrepareRequest) -> PreparedModel:
        """As the executor does."""
        return await _on_thread(prepare, request, self._models)

    async def plan(self, request: PlanRequest) -> PlanReply:
        """As the partitioner does."""
        return await _on_thread(plan, request)

    async def convert(self, request: ConvertRequest) -> ModelFile:
        """As the executor does."""
        return await _on_thread(convert, request, self._models)

    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """As the executor does; when cancelled, the thread ends at the next batch."""
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            loop.call_soon_threadsafe(listener, RankProgress(request.item.rank, done, total))

        control = Control(progress=progress)
        work = asyncio.create_task(asyncio.to_thread(infer, request, self._models, control))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            control.cancelled.set()
            store.abandon_calls()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def aggregate(self, request: AggregateRequest) -> Summary:
        """As the aggregator does."""
        return await _on_thread(aggregate, request)


async def _on_thread(stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The stage's reply; when cancelled, what it asked of a store is not waited for, which may hang."""
    try:
        return await asyncio.to_thread(stage, *args, **kwargs)
    except asyncio.CancelledError:
        store.abandon_calls()
        raise


class ProcessBackend(ServiceBackend):
    """`--on process`."""

    name = "process"

    def services(self, job: Job) -> Services:
        """This process."""
        return ProcessServices(job.device)
