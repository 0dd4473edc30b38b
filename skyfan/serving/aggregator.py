"""The aggregator over gRPC."""

import asyncio
import json
from collections.abc import Sequence

from skyfan.rpc.main import run_server
from skyfan.rpc.messages import to_model
from skyfan.stages import aggregate as core
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.v1 import aggregator_pb2, aggregator_pb2_grpc

SERVICE = "aggregator"
FULL_NAME = "skyfan.v1.Aggregator"


class AggregatorServicer(aggregator_pb2_grpc.AggregatorServicer):
    """A thin layer over `skyfan.stages.aggregate`."""

    async def Aggregate(
        self, request: aggregator_pb2.AggregateRequest, context: object
    ) -> aggregator_pb2.AggregateReply:
        """Accounts for every rank and writes the summary."""
        summary = await asyncio.to_thread(core.aggregate, to_model(request, AggregateRequest))
        return aggregator_pb2.AggregateReply(summary_json=json.dumps(summary.to_json_dict()))


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until told to stop."""
    run_server(
        SERVICE,
        FULL_NAME,
        lambda server: aggregator_pb2_grpc.add_AggregatorServicer_to_server(AggregatorServicer(), server),
        argv,
    )
