"""The partitioner over gRPC."""

import asyncio

from services.partitioner import core
from services.partitioner.requests import PlanRequest
from skyfan.rpc.messages import to_message, to_model
from skyfan.v1 import partitioner_pb2, partitioner_pb2_grpc

SERVICE = "partitioner"
FULL_NAME = "skyfan.v1.Partitioner"


class PartitionerServicer(partitioner_pb2_grpc.PartitionerServicer):
    """A thin layer over `services.partitioner.core`."""

    async def Plan(self, request: partitioner_pb2.PlanRequest, context: object) -> partitioner_pb2.PlanReply:
        """Plans a run and claims its output place."""
        reply = await asyncio.to_thread(core.plan, to_model(request, PlanRequest))
        return to_message(reply, partitioner_pb2.PlanReply)
