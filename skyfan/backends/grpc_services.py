"""The services behind gRPC: what `local` and `compose` have in common."""

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import structlog
from grpc import aio
from pydantic import BaseModel

from skyfan.aws_limits import LAMBDA_TIMEOUT_S
from skyfan.backends.executor_pool import ExecutorPool, Lease
from skyfan.backends.fan_out import when_free
from skyfan.backends.retry_policy import RetryPolicy
from skyfan.backends.services import Services
from skyfan.errors import SkyfanError, Transient
from skyfan.events import Listener, RankProgress
from skyfan.planning import PlanItem
from skyfan.records import RankRecord, Summary
from skyfan.rpc.channel_options import MAX_MESSAGE_BYTES
from skyfan.rpc.credentials import open_channel
from skyfan.rpc.envelope import pack, unpack
from skyfan.rpc.errors import call_metadata, error_of, is_from_server
from skyfan.stages.items import by_reference
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
from skyfan.v1.aggregator_pb2_grpc import AggregatorStub
from skyfan.v1.partitioner_pb2_grpc import PartitionerStub
from skyfan.v1.types_pb2 import Envelope

# A rank of very many files: its item is read from the run's folder instead of being sent.
LARGE_REQUEST_BYTES = MAX_MESSAGE_BYTES // 4
PREPARE_DEADLINE_S = 300.0
PLAN_DEADLINE_S = 600.0
AGGREGATE_DEADLINE_S = float(LAMBDA_TIMEOUT_S)
# A rank on Lambda has 15 minutes; the same job must not depend on having more elsewhere.
RANK_DEADLINE_S = float(LAMBDA_TIMEOUT_S)

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)


class GrpcServices(Services):
    """Calls services at known addresses; executors come from a pool. Subclasses know where they all are."""

    pool: ExecutorPool
    plain = False
    """Without TLS, whatever the environment says."""
    wait_for_ready = True
    """Whether a service that does not answer yet is waited for; not where this process starts and watches it."""

    @abstractmethod
    async def address_of(self, service: Literal["partitioner", "aggregator"]) -> str:
        """HOST:PORT of the service, which is up as far as is known here."""

    async def loss_of(self, _address: str) -> str | None:
        """How an executor ended that a call was lost to, as a part of a sentence; None where that is not known.

        One that is there and does not answer is ended.
        """
        return None

    async def prepare(self, request: PrepareRequest, _listener: Listener) -> PreparedModel:
        """On any executor."""
        return await self._on_executor("Prepare", request, PreparedModel)

    async def convert(self, request: ConvertRequest) -> ModelFile:
        """On any executor; converting twice is the same as once."""
        return await self._on_executor("Convert", request, ModelFile)

    async def warm_up(self, request: ConvertRequest, ranks: int) -> None:
        """On all executors at once; one that cannot is left to the ranks, whose retries it is charged to."""
        count = min(self.concurrency, ranks)
        if count > 1:  # the one that converted is warm
            calls = (self.convert(request) for _ in range(count))
            for failed in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(failed, BaseException):
                    structlog.get_logger("driver").warning("an executor did not warm up", error=str(failed))

    async def plan(self, request: PlanRequest, _listener: Listener) -> PlanReply:
        """On the partitioner; planning twice is the same as once."""
        return await self._on_service(
            "partitioner", lambda channel: PartitionerStub(channel).Plan, request, PlanReply, PLAN_DEADLINE_S
        )

    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """On the next idle executor; its stream brings progress and at last the record."""
        async with self.pool.lease() as executor:
            try:
                return await self._infer(executor, request, listener)
            except aio.AioRpcError as error:
                lost = error_of(error, f"executor {executor.address}")
                how = None if is_from_server(error) else await self.loss_of(executor.address)
                raise Transient(_died(how, request.item)) if how else lost from error

    async def _infer(self, executor: Lease, request: InferRequest, listener: Listener) -> RankRecord:
        envelope = pack(request)
        if envelope.ByteSize() > LARGE_REQUEST_BYTES:
            envelope = pack(await asyncio.to_thread(by_reference, request))
        call = executor.stub.Infer(envelope, timeout=RANK_DEADLINE_S, metadata=call_metadata())
        record: RankRecord | None = None
        async for event in call:
            if event.WhichOneof("event") == "record":
                record = unpack(event.record, RankRecord)
            else:
                progress = event.progress
                listener(RankProgress(request.item.rank, progress.samples_done, progress.samples_total))
        if record is None:
            raise Transient(f"executor {executor.address} ended without a record.")
        return record

    async def aggregate(self, request: AggregateRequest) -> Summary:
        """On the aggregator; aggregating twice is the same as once."""
        return await self._on_service(
            "aggregator", lambda channel: AggregatorStub(channel).Aggregate, request, Summary, AGGREGATE_DEADLINE_S
        )

    async def _on_service(
        self,
        service: Literal["partitioner", "aggregator"],
        method_of: Callable[[aio.Channel], Callable[..., Awaitable[Envelope]]],
        request: BaseModel,
        kind: type[B],
        deadline_s: float,
    ) -> B:
        async def call() -> B:
            address = await self.address_of(service)
            async with open_channel(address, plain=self.plain) as channel:
                return await call_unary(
                    method_of(channel),
                    request,
                    kind,
                    f"{service} {address}",
                    deadline_s=deadline_s,
                    wait_for_ready=self.wait_for_ready,
                )

        return await _retry(call, deadline_s)

    async def _on_executor(self, method: str, request: BaseModel, kind: type[B]) -> B:
        async def call() -> B:
            async with self.pool.lease() as executor:
                send = getattr(executor.stub, method)
                return await call_unary(
                    send, request, kind, f"executor {executor.address}", deadline_s=PREPARE_DEADLINE_S
                )

        return await _retry(call, PREPARE_DEADLINE_S)


async def call_unary(
    send: Callable[..., Awaitable[Envelope]],
    request: BaseModel,
    kind: type[B],
    where: str,
    *,
    deadline_s: float,
    wait_for_ready: bool = False,
) -> B:
    """One unary call; with `wait_for_ready` it waits until the service is there."""
    try:
        reply = await send(pack(request), timeout=deadline_s, metadata=call_metadata(), wait_for_ready=wait_for_ready)
    except aio.AioRpcError as error:
        raise error_of(error, where) from error
    return unpack(reply, kind)


def _died(how: str, item: PlanItem) -> str:
    """The sentence for a rank whose executor died; its samples are those of the dataset."""
    first, last = item.spans[0].first_sample, item.spans[-1].first_sample + item.spans[-1].samples
    return f"the executor died ({how}) on rank {item.rank}, samples {first} to {last}."


async def _retry(call: Callable[[], Awaitable[T]], deadline_s: float) -> T:
    """Calls that are idempotent, repeated by the driver's policy until `deadline_s` seconds have passed."""
    policy, rng, retry = RetryPolicy(), random.Random(), 0  # noqa: S311 (jitter)
    give_up_at = time.monotonic() + deadline_s
    while True:
        try:
            return await when_free(call, give_up_at - time.monotonic(), rng)
        except SkyfanError as error:
            retry += 1
            if not policy.should_retry(error, retry) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(policy.delay_s(retry, rng))
