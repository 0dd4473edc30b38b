"""The aggregator over gRPC."""

import asyncio
import json

from services.aggregator import core
from services.aggregator.requests import AggregateRequest
from skyfan.rpc.messages import to_model
from skyfan.v1 import aggregator_pb2, aggregator_pb2_grpc

SERVICE = "aggregator"
FULL_NAME = "skyfan.v1.Aggregator"


class AggregatorServicer(aggregator_pb2_grpc.AggregatorServicer):
    """A thin layer over `services.aggregator.core`."""

    async def Aggregate(
        self, request: aggregator_pb2.AggregateRequest, context: object
    ) -> aggregator_pb2.AggregateReply:
        """Accounts for every rank and writes the summary."""
        summary = await asyncio.to_thread(core.aggregate, to_model(request, AggregateRequest))
        return aggregator_pb2.AggregateReply(summary_json=json.dumps(summary.to_json_dict()))
