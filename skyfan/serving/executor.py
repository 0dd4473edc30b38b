"""The executor over gRPC: one rank at a time, progress as it goes, stopped by cancelling the call."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from grpc import aio

from skyfan.comm.check_messages import RankCheck
from skyfan.comm.waiting import countdown
from skyfan.engines.device import available_device
from skyfan.engines.threads import available_threads
from skyfan.errors import Busy, DeviceLost
from skyfan.rpc.envelope import is_of, pack, unpack
from skyfan.rpc.main import run_server
from skyfan.stages.infer import Control, infer
from skyfan.stages.items import read_item
from skyfan.stages.messages import ConvertRequest, InferByReference, InferRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.prepare import convert, prepare
from skyfan.v1 import executor_pb2, executor_pb2_grpc
from skyfan.v1.types_pb2 import Envelope

SERVICE = "executor"
FULL_NAME = "skyfan.v1.Executor"
_PROGRESS_EVERY_S = 0.2

T = TypeVar("T")
Context = aio.ServicerContext[Envelope, executor_pb2.InferEvent]


class ExecutorServicer(executor_pb2_grpc.ExecutorServicer):
    """A thin layer over `skyfan.stages.prepare` and `skyfan.stages.infer`."""

    device_lost = False
    """Whether this process has to end because its GPU failed under it."""

    def __init__(self, models: ModelCache) -> None:
        self._models = models
        self._busy = asyncio.Lock()

    async def Prepare(self, request: Envelope, context: object) -> Envelope:
        """Reads the model and tries it."""
        async with self._free():
            return pack(await _on_thread(prepare, unpack(request, PrepareRequest), self._models))

    async def Convert(self, request: Envelope, context: object) -> Envelope:
        """Leaves the model where ranks load it."""
        async with self._free():
            return pack(await _on_thread(convert, unpack(request, ConvertRequest), self._models))

    async def Infer(self, request: Envelope, context: Context) -> AsyncIterator[executor_pb2.InferEvent]:
        """Computes one rank on a thread of its own; the loop stays free for health checks."""
        async with self._free():
            asked = await asyncio.to_thread(_asked, request)
            structlog.contextvars.bind_contextvars(run_id=asked.run_id, rank=asked.item.rank)
            state = _Progress()
            limit_s = context.time_remaining()  # None where the caller set no deadline
            control = Control(
                progress=state.update,
                cancelled=threading.Event(),
                remaining_s=None if limit_s is None else countdown(limit_s),
            )
            work = asyncio.create_task(asyncio.to_thread(infer, asked, self._models, control))
            try:
                while not work.done():
                    await asyncio.wait({work}, timeout=_PROGRESS_EVERY_S)
                    if state.total and not work.done():
                        yield executor_pb2.InferEvent(
                            progress=executor_pb2.Progress(samples_done=state.done, samples_total=state.total)
                        )
                yield executor_pb2.InferEvent(record=pack(work.result()))
            finally:
                # The caller went away or the server stops: the thread ends at the next batch, and only then
                # is the executor free again.
                control.cancelled.set()
                await asyncio.gather(work, return_exceptions=True)

    async def CheckComm(self, request: Envelope, context: object) -> Envelope:
        """Is one rank of a communication check."""
        from skyfan.comm.check_rank import check_rank

        asked = unpack(request, RankCheck)
        async with self._free():
            cancelled = threading.Event()
            return pack(await _on_thread(check_rank, asked, cancelled, stop=cancelled.set))

    @asynccontextmanager
    async def _free(self) -> AsyncIterator[None]:
        """This executor for one call; refused where another has it."""
        if self._busy.locked():
            raise Busy("this executor is busy with another rank.")
        async with self._busy:
            try:
                yield
            except DeviceLost:
                # What CUDA holds of a card that failed cannot be used again in this process. It drains and ends, and
                # what watches it (the driver on local, a container's restart policy) starts another.
                self.device_lost = True
                signal.raise_signal(signal.SIGTERM)
                raise


async def _on_thread(stage: Callable[..., T], *arguments: object, stop: Callable[[], None] = lambda: None) -> T:
    """The stage's reply. When the call is cancelled, `stop` is called and the thread waited for.

    Only then is the executor free again: the next call's rank would load models in the same cache at the same time.
    """
    work = asyncio.create_task(asyncio.to_thread(stage, *arguments))
    try:
        return await asyncio.shield(work)
    finally:
        stop()
        await asyncio.gather(work, return_exceptions=True)


def _asked(envelope: Envelope) -> InferRequest:
    """The request; an item that is too large for a message is read from the run's folder."""
    if not is_of(envelope, InferByReference):
        return unpack(envelope, InferRequest)
    found = unpack(envelope, InferByReference)
    return InferRequest(item=read_item(found.item), **found.beside_item())


class _Progress:
    """Written by the working thread, read by the event loop; two integers need no lock."""

    done = 0
    total = 0

    def update(self, done: int, total: int) -> None:
        self.done, self.total = done, total


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    servicer = ExecutorServicer(ModelCache(threads=available_threads(), device=available_device()))
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: executor_pb2_grpc.add_ExecutorServicer_to_server(servicer, server),
        argv,
    )
    if servicer.device_lost:
        sys.exit(DeviceLost.exit_code)
