"""The executor over gRPC: one rank at a time, progress as it goes, stopped by cancelling the call."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog
from grpc import aio

from skyfan.comm.check import RankCheck, check_rank
from skyfan.engines.device import available_device
from skyfan.engines.threads import available_threads
from skyfan.errors import Busy
from skyfan.records import RankRecord
from skyfan.rpc.main import run_server
from skyfan.rpc.messages import to_message, to_model
from skyfan.stages import infer as core
from skyfan.stages.infer_messages import InferRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.v1 import executor_pb2, executor_pb2_grpc

SERVICE = "executor"
FULL_NAME = "skyfan.v1.Executor"
_PROGRESS_EVERY_S = 0.2

Context = aio.ServicerContext[executor_pb2.InferRequest, executor_pb2.InferEvent]


class ExecutorServicer(executor_pb2_grpc.ExecutorServicer):
    """A thin layer over `skyfan.stages.infer`."""

    def __init__(self, models: ModelCache) -> None:
        self._models = models
        self._busy = asyncio.Lock()

    async def Prepare(self, request: executor_pb2.PrepareRequest, context: object) -> executor_pb2.PrepareReply:
        """Reads the model."""
        self._refuse_if_busy()
        async with self._busy:
            prepared = await asyncio.to_thread(core.prepare, to_model(request, PrepareRequest), self._models)
        return to_message(prepared, executor_pb2.PrepareReply)

    async def Infer(
        self, request: executor_pb2.InferRequest, context: Context
    ) -> AsyncIterator[executor_pb2.InferEvent]:
        """Computes one rank on a thread of its own; the loop stays free for health checks."""
        self._refuse_if_busy()
        async with self._busy:
            asked = to_model(request, InferRequest)
            structlog.contextvars.bind_contextvars(run_id=asked.run_id, rank=asked.item.rank)
            state = _Progress()
            control = core.Control(
                progress=state.update, cancelled=threading.Event(), remaining_s=_countdown(context.time_remaining())
            )
            work = asyncio.create_task(asyncio.to_thread(core.infer, asked, self._models, control))
            try:
                while not work.done():
                    await asyncio.wait({work}, timeout=_PROGRESS_EVERY_S)
                    if state.total and not work.done():
                        yield executor_pb2.InferEvent(
                            progress=executor_pb2.Progress(samples_done=state.done, samples_total=state.total)
                        )
                yield executor_pb2.InferEvent(record_json=_json(work.result()))
            finally:
                # The caller went away or the server stops: the thread ends at the next batch, and only then
                # is the executor free again.
                control.cancelled.set()
                await asyncio.gather(work, return_exceptions=True)

    async def CheckComm(self, request: executor_pb2.CheckCommRequest, context: object) -> executor_pb2.CheckCommReply:
        """Is one rank of a communication check."""
        self._refuse_if_busy()
        async with self._busy:
            report = await asyncio.to_thread(check_rank, RankCheck.model_validate_json(request.work_json))
        return executor_pb2.CheckCommReply(report_json=report.model_dump_json())

    def _refuse_if_busy(self) -> None:
        if self._busy.locked():
            raise Busy("this executor is busy with another rank.")


class _Progress:
    """Written by the working thread, read by the event loop; two integers need no lock."""

    done = 0
    total = 0

    def update(self, done: int, total: int) -> None:
        self.done, self.total = done, total


def _countdown(limit_s: float | None) -> Callable[[], float] | None:
    """Seconds that are left of `limit_s`, from now on; None where the caller set no deadline."""
    if limit_s is None:
        return None
    end = time.monotonic() + limit_s
    return lambda: end - time.monotonic()


def _json(record: RankRecord) -> str:
    return json.dumps(record.to_json_dict())


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    models = ModelCache(threads=available_threads(), device=available_device())
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: executor_pb2_grpc.add_ExecutorServicer_to_server(ExecutorServicer(models), server),
        argv,
    )
