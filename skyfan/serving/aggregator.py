"""The aggregator over gRPC."""

import asyncio
import threading
from collections.abc import Sequence

from skyfan.rpc.envelope import pack, unpack
from skyfan.rpc.main import run_server
from skyfan.stages.aggregate import aggregate
from skyfan.stages.messages import AggregateRequest
from skyfan.v1 import aggregator_pb2_grpc
from skyfan.v1.types_pb2 import Envelope

SERVICE = "aggregator"
FULL_NAME = "skyfan.v1.Aggregator"
# One thread draws all figures (`report.drawing`): of several calls at once each would take as long as all of them.
MAX_CALLS = 1


class AggregatorServicer(aggregator_pb2_grpc.AggregatorServicer):
    """A thin layer over `skyfan.stages.aggregate`."""

    async def Aggregate(self, request: Envelope, context: object) -> Envelope:
        """Accounts for every rank and writes the summary, unless its caller goes before."""
        cancelled = threading.Event()
        try:
            return pack(await asyncio.to_thread(aggregate, unpack(request, AggregateRequest), cancelled))
        finally:
            cancelled.set()


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: aggregator_pb2_grpc.add_AggregatorServicer_to_server(AggregatorServicer(), server),
        argv,
        max_concurrent_calls=MAX_CALLS,
    )
