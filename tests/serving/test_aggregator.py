"""The aggregator's server: one report at a time."""

import asyncio
import json
import os
import socket
import sys

import pytest

from skyfan.backends.grpc_services import call_unary
from skyfan.errors import Busy
from skyfan.records import Summary
from skyfan.rpc.credentials import open_channel
from skyfan.stages.messages import AggregateRequest
from skyfan.v1.aggregator_pb2_grpc import AggregatorStub

pytestmark = pytest.mark.slow


def test_a_second_call_is_refused_while_the_first_is_at_work():
    async def go(store_at):
        environment = {**os.environ, "AWS_ENDPOINT_URL": "http://{}:{}".format(*store_at.getsockname())}
        environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        command = [sys.executable, "-P", "-m", "skyfan.serving", "aggregator", "--announce", "--address", "127.0.0.1:0"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment)
        try:
            port = json.loads(await process.stdout.readline())["port"]
            async with open_channel(f"127.0.0.1:{port}", plain=True) as channel:
                send = AggregatorStub(channel).Aggregate
                asked = AggregateRequest(output="s3://bucket/run", run_id="0" * 16, target="test")
                first = asyncio.create_task(call_unary(send, asked, Summary, "aggregator", deadline_s=60))
                # it reads the plan, from a store that never answers
                connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(store_at), 60)
                with connection, pytest.raises(Busy, match="calls in hand"):
                    await call_unary(send, asked, Summary, "aggregator", deadline_s=60)
                assert not first.done()
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
        finally:
            process.kill()
            await process.wait()

    with socket.create_server(("127.0.0.1", 0)) as store_at:
        store_at.setblocking(False)
        asyncio.run(go(store_at))
