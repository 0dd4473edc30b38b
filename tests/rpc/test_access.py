"""Callers without the token cannot disturb those who have it, whatever they call and however they do it."""

import asyncio
import contextlib

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from skyfan.errors import BadInput
from skyfan.rpc.channel_options import server_options
from skyfan.rpc.credentials import is_loopback
from skyfan.rpc.errors import call_metadata, error_of
from skyfan.rpc.healthcheck import is_serving
from skyfan.rpc.interceptor import CallInterceptor
from skyfan.rpc.main import DEFAULT_ADDRESS
from skyfan.v1 import partitioner_pb2_grpc
from skyfan.v1.types_pb2 import Envelope

PLAN = "/skyfan.v1.Partitioner/Plan"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LIMIT = 4


class Partitioner(partitioner_pb2_grpc.PartitionerServicer):
    """Answers when it is told to."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun = asyncio.Semaphore(0)

    async def Plan(self, request, context):  # noqa: N802 (the name in the proto file)
        self.begun.release()
        await self.go_on.wait()
        return Envelope(schema="done")


@contextlib.asynccontextmanager
async def serving():
    """A server as `skyfan.rpc.server.serve` makes it: its servicer, and a channel to it."""
    server = aio.server(interceptors=[CallInterceptor("partitioner", LIMIT)], options=server_options())
    servicer, checks = Partitioner(), health.aio.HealthServicer()
    partitioner_pb2_grpc.add_PartitionerServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((reflection.SERVICE_NAME,), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, channel
    await server.stop(None)


def run(scenario):
    async def whole():
        async with asyncio.timeout(30), serving() as (servicer, channel):
            return await scenario(servicer, channel)

    return asyncio.run(whole())


async def status(call):
    """The status with which a call ends."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def plan(channel, metadata=()):
    return await channel.unary_unary(PLAN, response_deserializer=Envelope.FromString)(b"", metadata=metadata)


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("SKYFAN_TOKEN", "a-secret-of-the-owner")
    return (("skyfan-token", "a-secret-of-the-owner"),)


@pytest.mark.parametrize("method", [PLAN, CHECK, WATCH, REFLECT, "/skyfan.v1.Nobody/Nothing"])
@pytest.mark.parametrize("metadata", [(), (("skyfan-token", "guess"),), (("skyfan-token", ""),)])
def test_every_method_needs_the_token(token, method, metadata):
    async def scenario(_servicer, channel):
        return await status(channel.unary_unary(method)(b"", metadata=metadata))

    assert run(scenario) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", [PLAN, CHECK, WATCH, REFLECT])
def test_a_hundred_calls_that_never_send_their_request_hold_no_place(token, method):
    async def scenario(_servicer, channel):
        held = [channel.stream_stream(method)() for _ in range(100)]
        ended = [await status(call.read()) for call in held]
        reply = await plan(channel, token)
        return set(ended), reply.schema

    assert run(scenario) == ({grpc.StatusCode.UNAUTHENTICATED}, "done")


def test_the_missing_token_is_bad_input_to_a_client(token):
    async def scenario(_servicer, channel):
        try:
            await plan(channel)
        except aio.AioRpcError as error:
            return error_of(error, "partitioner")

    found = run(scenario)
    assert isinstance(found, BadInput)
    assert "SKYFAN_TOKEN" in str(found)


def test_the_health_check_carries_the_token(token):
    async def scenario(_servicer, channel):
        return await is_serving(channel)

    assert call_metadata() == token
    assert run(scenario)


def test_more_calls_than_the_limit_are_told_to_come_again(token):
    async def scenario(servicer, channel):
        servicer.go_on.clear()
        held = [asyncio.ensure_future(plan(channel, token)) for _ in range(LIMIT)]
        for _ in range(LIMIT):
            await servicer.begun.acquire()
        refused, healthy = await status(plan(channel, token)), await is_serving(channel)
        servicer.go_on.set()
        replies = await asyncio.gather(*held)
        return refused, healthy, len(replies), (await plan(channel, token)).schema

    assert run(scenario) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True, LIMIT, "done")


def test_without_a_token_streams_of_reflection_are_counted_apart(monkeypatch):
    monkeypatch.delenv("SKYFAN_TOKEN", raising=False)

    async def scenario(_servicer, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        held = [stub.ServerReflectionInfo() for _ in range(8)]
        for call in held:
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            await call.read()
        one_more = await status(stub.ServerReflectionInfo().read())
        watching = await status(channel.unary_unary(WATCH)(b""))
        return one_more, watching, (await plan(channel)).schema

    assert run(scenario) == (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED, "done")


@pytest.mark.parametrize("method", [PLAN, CHECK])
def test_a_request_that_cannot_be_parsed_is_an_invalid_argument(token, method):
    async def scenario(_servicer, channel):
        return await status(channel.unary_unary(method)(b"\xff" * 100, metadata=token))

    assert run(scenario) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        (DEFAULT_ADDRESS, True),
        ("127.8.9.1:1", True),
        ("[::1]:50051", True),
        ("localhost:0", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.3:50051", False),
        ("executor:50051", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(address, loopback):
    assert is_loopback(address) is loopback
