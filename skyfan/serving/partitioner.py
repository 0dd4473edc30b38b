"""The partitioner over gRPC."""

import asyncio
import threading
from collections.abc import Sequence

from skyfan.rpc.envelope import pack, unpack
from skyfan.rpc.main import run_server
from skyfan.stages.messages import PlanRequest
from skyfan.stages.plan import plan
from skyfan.v1 import partitioner_pb2_grpc
from skyfan.v1.types_pb2 import Envelope

SERVICE = "partitioner"
FULL_NAME = "skyfan.v1.Partitioner"


class PartitionerServicer(partitioner_pb2_grpc.PartitionerServicer):
    """A thin layer over `skyfan.stages.plan`."""

    async def Plan(self, request: Envelope, context: object) -> Envelope:
        """Plans a run and claims its output; without its caller nothing more of an earlier start is removed."""
        cancelled = threading.Event()
        try:
            return pack(await asyncio.to_thread(plan, unpack(request, PlanRequest), cancelled=cancelled))
        finally:
            cancelled.set()


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: partitioner_pb2_grpc.add_PartitionerServicer_to_server(PartitionerServicer(), server),
        argv,
    )
