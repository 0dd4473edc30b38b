"""Everything in this process, one rank after the other: the baseline that the fan-out is compared with."""

import asyncio
import threading

from skyfan import store
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.backends.stage_threads import in_loop, on_thread
from skyfan.engines.device import CUDA, available_device
from skyfan.engines.threads import available_threads
from skyfan.events import Listener, RankProgress, counting
from skyfan.job import Job
from skyfan.records import RankRecord, Summary
from skyfan.report import import_page
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


class ProcessServices(Services):
    """Calls the stages directly. Work runs on a thread, so that Ctrl-C and progress get through."""

    name = "process"
    concurrency = 1
    scale_up_hint = "use --on local --workers {ranks}"

    def __init__(self, device: str | None = None) -> None:
        self._models = ModelCache(threads=available_threads(), device=available_device(device))
        self._page: threading.Thread | None = None

    async def prepare(self, request: PrepareRequest, listener: Listener) -> PreparedModel:
        """As the executor does."""
        return await on_thread(prepare, request, self._models, counting(in_loop(listener)))

    async def plan(self, request: PlanRequest, listener: Listener) -> PlanReply:
        """As the partitioner does."""
        return await on_thread(plan, request, counting(in_loop(listener)))

    async def convert(self, request: ConvertRequest) -> ModelFile:
        """As the executor does."""
        return await on_thread(convert, request, self._models)

    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """As the executor does; when cancelled, the thread ends at the next batch."""
        if self._page is None and self._models.device == CUDA:  # a processor that computes itself would only be slower
            self._page = threading.Thread(target=import_page, name="skyfan-page")
            self._page.start()
        tell = in_loop(listener)
        control = Control(progress=lambda done, total: tell(RankProgress(request.item.rank, done, total)))
        work = asyncio.create_task(asyncio.to_thread(infer, request, self._models, control))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            control.cancelled.set()
            store.abandon_calls()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def aggregate(self, request: AggregateRequest) -> Summary:
        """As the aggregator does; a summary that was written all the same is the reply, interrupted or not."""
        cancelled = threading.Event()
        work = asyncio.create_task(asyncio.to_thread(aggregate, request, cancelled))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            store.abandon_calls()
            return await work


class ProcessBackend(ServiceBackend):
    """`--on process`."""

    name = "process"

    def services(self, job: Job) -> Services:
        """This process."""
        return ProcessServices(job.device)
