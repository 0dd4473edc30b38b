"""Executors come and go: the pool keeps looking, and does not wait for ever when nobody is there."""

import asyncio
import contextlib

import grpc
import pytest
from grpc import aio

from skyfan.backends import executor_pool as pools
from skyfan.backends.executor_pool import ExecutorPool
from skyfan.errors import SkyfanError, Transient


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(pools, "REFRESH_S", 0.05)


@contextlib.asynccontextmanager
async def started(pool):
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


@contextlib.asynccontextmanager
async def server(handlers=()):
    served = aio.server()
    served.add_generic_rpc_handlers(tuple(handlers))
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await served.stop(None)


def healthy():
    from grpc_health.v1 import health_pb2

    async def check(request, context):
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    handler = grpc.unary_unary_rpc_method_handler(
        check, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})


@pytest.mark.parametrize(
    "error", [SkyfanError("an executor did not start."), OSError(24, "many files"), ValueError("x")]
)
def test_one_failed_look_does_not_end_the_looking(error):
    async def go():
        async with server([healthy()]) as address:
            looks = 0

            async def discover():
                nonlocal looks
                looks += 1
                if looks == 2:
                    raise error
                return {address} if looks > 2 else set()

            async with started(ExecutorPool(discover)) as pool, asyncio.timeout(20), pool.lease() as executor:
                return executor.address == address

    assert asyncio.run(go())


def test_a_server_that_knows_no_health_checks_is_no_executor(monkeypatch):
    monkeypatch.setattr(pools, "NOBODY_DEADLINE_S", 0.2)

    async def go():
        async with server() as address:

            async def discover():
                return {address}

            async with started(ExecutorPool(discover)) as pool, asyncio.timeout(20), pool.lease():
                pass

    with pytest.raises(SkyfanError, match="no executor answers"):
        asyncio.run(go())


def test_nobody_for_long_is_said_once_and_not_waited_for_again(monkeypatch):
    monkeypatch.setattr(pools, "NOBODY_DEADLINE_S", 0.2)

    async def discover():
        return set()

    async def go():
        async with started(ExecutorPool(discover)) as pool, asyncio.timeout(20), pool.lease():
            pass

    with pytest.raises(SkyfanError, match="are they running") as failure:
        asyncio.run(go())
    assert not isinstance(failure.value, Transient)


def test_an_executor_is_lent_again_after_a_failure_when_it_is_healthy():
    async def go():
        async with server([healthy()]) as address:

            async def discover():
                return {address}

            async with started(ExecutorPool(discover)) as pool, asyncio.timeout(20):
                with contextlib.suppress(Transient):
                    async with pool.lease():
                        raise Transient("lost")
                async with pool.lease() as executor:
                    return executor.address == address

    assert asyncio.run(go())
