"""The services behind gRPC: what `local` and `compose` have in common."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from grpc import aio

from skyfan.backends.base import Target
from skyfan.backends.executor_pool import ExecutorPool
from skyfan.backends.retry_policy import RetryPolicy
from skyfan.errors import SkyfanError, Transient
from skyfan.events import Listener, RankProgress
from skyfan.records import RankRecord, Summary
from skyfan.rpc.credentials import open_channel
from skyfan.rpc.errors import call_metadata, error_of
from skyfan.rpc.messages import to_message, to_model
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.stages.infer_messages import InferRequest, PreparedModel, PrepareRequest
from skyfan.stages.plan_messages import PlanReply, PlanRequest
from skyfan.v1 import aggregator_pb2, executor_pb2, partitioner_pb2
from skyfan.v1.aggregator_pb2_grpc import AggregatorStub
from skyfan.v1.partitioner_pb2_grpc import PartitionerStub

PREPARE_DEADLINE_S = 300.0
PLAN_DEADLINE_S = 600.0
AGGREGATE_DEADLINE_S = 900.0
# A rank on Lambda has 15 minutes; the same job must not depend on having more elsewhere.
RANK_DEADLINE_S = 900.0

T = TypeVar("T")


class GrpcTarget(Target):
    """Calls services at known addresses; executors come from a pool. Subclasses say where they all are."""

    pool: ExecutorPool
    partitioner_address: str
    aggregator_address: str
    plain = False
    """Without TLS, whatever the environment says."""

    async def prepare(self, request: PrepareRequest) -> PreparedModel:
        """On any executor."""

        async def call() -> PreparedModel:
            async with self.pool.lease() as executor:
                with _errors(f"executor {executor.address}"):
                    reply = await executor.stub.Prepare(
                        to_message(request, executor_pb2.PrepareRequest),
                        timeout=PREPARE_DEADLINE_S,
                        metadata=call_metadata(),
                    )
            return to_model(reply, PreparedModel)

        return await _again(call, PREPARE_DEADLINE_S)

    async def plan(self, request: PlanRequest) -> PlanReply:
        """On the partitioner; planning twice is the same as once."""

        async def call() -> PlanReply:
            async with open_channel(self.partitioner_address, plain=self.plain) as channel:
                with _errors(f"partitioner {self.partitioner_address}"):
                    reply = await PartitionerStub(channel).Plan(
                        to_message(request, partitioner_pb2.PlanRequest),
                        timeout=PLAN_DEADLINE_S,
                        metadata=call_metadata(),
                        wait_for_ready=True,
                    )
            return to_model(reply, PlanReply)

        return await _again(call, PLAN_DEADLINE_S)

    async def infer(self, request: InferRequest, listener: Listener) -> RankRecord:
        """On the next idle executor; its stream brings progress and at last the record."""
        async with self.pool.lease() as executor:
            with _errors(f"executor {executor.address}"):
                call = executor.stub.Infer(
                    to_message(request, executor_pb2.InferRequest), timeout=RANK_DEADLINE_S, metadata=call_metadata()
                )
                record: RankRecord | None = None
                async for event in call:
                    if event.WhichOneof("event") == "record_json":
                        record = RankRecord.model_validate_json(event.record_json)
                    else:
                        progress = event.progress
                        listener(RankProgress(request.item.rank, progress.samples_done, progress.samples_total))
            if record is None:
                raise Transient(f"executor {executor.address} ended without a record.")
            return record

    async def aggregate(self, request: AggregateRequest) -> Summary:
        """On the aggregator; aggregating twice is the same as once."""

        async def call() -> Summary:
            async with open_channel(self.aggregator_address, plain=self.plain) as channel:
                with _errors(f"aggregator {self.aggregator_address}"):
                    reply = await AggregatorStub(channel).Aggregate(
                        to_message(request, aggregator_pb2.AggregateRequest),
                        timeout=AGGREGATE_DEADLINE_S,
                        metadata=call_metadata(),
                        wait_for_ready=True,
                    )
            return Summary.model_validate_json(reply.summary_json)

        return await _again(call, AGGREGATE_DEADLINE_S)


class _errors:  # noqa: N801 (reads as a statement)
    """Turns a failed call inside into the Skyfan error behind it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aio.AioRpcError):
            raise error_of(error, self._what) from error


async def _again(call: Callable[[], Awaitable[T]], deadline_s: float) -> T:
    """Calls that are idempotent, tried again by the driver's policy until `deadline_s` seconds have passed."""
    policy, rng, retry = RetryPolicy(), random.Random(), 0  # noqa: S311 (jitter)
    give_up_at = time.monotonic() + deadline_s
    while True:
        try:
            return await call()
        except SkyfanError as error:
            retry += 1
            if not policy.again(error, retry) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(policy.delay_s(retry, rng))
