"""`python -m skyfan.rpc.healthcheck HOST:PORT`: exit status 0 when the gRPC server there is serving.

The check carries `SKYFAN_TOKEN`, as every call does.
"""

import asyncio
import sys

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from skyfan.rpc.credentials import open_channel
from skyfan.rpc.errors import call_metadata

CHECK_DEADLINE_S = 3.0


async def is_serving(channel: aio.Channel) -> bool:
    """Whether the server behind `channel` is healthy; one that does not answer is not."""
    try:
        reply = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(), timeout=CHECK_DEADLINE_S, metadata=call_metadata()
        )
    except aio.AioRpcError as error:
        import structlog  # a quarter of what a probe costs, and each container has one every 15 s

        # A server that is killed can answer with nearly any status, and one without health checks is not ours.
        structlog.get_logger().debug("no health", code=error.code().name, details=error.details())
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


async def check(address: str) -> bool:
    """Whether the server at `host:port` is serving."""
    async with open_channel(address) as channel:
        return await is_serving(channel)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(check(sys.argv[1])) else 1)
