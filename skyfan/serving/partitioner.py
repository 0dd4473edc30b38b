"""The partitioner over gRPC."""

import asyncio
from collections.abc import Sequence

from skyfan.rpc.main import run_server
from skyfan.rpc.messages import to_message, to_model
from skyfan.stages import plan as core
from skyfan.stages.plan_messages import PlanRequest
from skyfan.v1 import partitioner_pb2, partitioner_pb2_grpc

SERVICE = "partitioner"
FULL_NAME = "skyfan.v1.Partitioner"


class PartitionerServicer(partitioner_pb2_grpc.PartitionerServicer):
    """A thin layer over `skyfan.stages.plan`."""

    async def Plan(self, request: partitioner_pb2.PlanRequest, context: object) -> partitioner_pb2.PlanReply:
        """Plans a run and claims its output place."""
        reply = await asyncio.to_thread(core.plan, to_model(request, PlanRequest))
        return to_message(reply, partitioner_pb2.PlanReply)


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: partitioner_pb2_grpc.add_PartitionerServicer_to_server(PartitionerServicer(), server),
        argv,
    )
