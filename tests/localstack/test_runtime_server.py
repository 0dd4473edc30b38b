"""The Runtime API over real connections, with AWS's own runtime interface client in a process of its own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from skyfan_localstack.runtime_api.dispatch import Function, Invocation
from skyfan_localstack.runtime_api.server import RuntimeApiServer
from skyfan_localstack.runtime_api.settings import SettingsError, from_environment

PROBE = Path(__file__).parent / "probe"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Function, int]]:
    probe = Function("probe", queue_length=10, queue_wait_s=15)
    server = RuntimeApiServer({"probe": probe}, {"probe": 0}, host="127.0.0.1")
    await server.start()
    try:
        yield probe, server.bound["probe"]
    finally:
        await server.close()


@asynccontextmanager
async def worker(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": "probe",
        "AWS_REGION": "us-east-1",
        "PYTHONPATH": str(PROBE),
        "PYTHONWARNINGS": "ignore",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "awslambdaric", "handler.handle", env=environment, cwd=PROBE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def invoke(probe: Function, event: dict, timeout_s: float = 15) -> dict:
    call = Invocation(os.urandom(8).hex(), json.dumps(event).encode(), timeout_s, "arn:aws:lambda:x:y:z")
    return json.loads((await probe.invoke(call)).payload)


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_runtime_interface_client_takes_and_answers_invocations():
    async def work() -> None:
        async with serving() as (probe, port), worker(port):
            first = await invoke(probe, {"n": 1})
            assert first["event"] == {"n": 1}
            assert first["arn"] == "arn:aws:lambda:x:y:z"
            failed = await invoke(probe, {"failures": 1, "error": "SkyfanBadInput"})
            assert failed["errorType"] == "SkyfanBadInput"
            assert (await invoke(probe, {"n": 2}))["event"] == {"n": 2}

    run(work())


def test_killed_process_fails_its_invocation_at_once():
    async def work() -> None:
        async with serving() as (probe, port), worker(port) as process:
            await invoke(probe, {})
            call = asyncio.create_task(invoke(probe, {"sleep_s": 50}, timeout_s=50))
            await asyncio.sleep(1)  # the handler is asleep by now
            process.send_signal(signal.SIGKILL)
            assert (await call)["errorType"] == "Runtime.ExitError"

    run(work())


def test_worker_whose_answer_is_late_is_told_so_and_ends():
    async def work() -> None:
        async with serving() as (probe, port), worker(port) as process:
            await invoke(probe, {})
            late = await invoke(probe, {"sleep_s": 0.5}, timeout_s=0.1)
            assert late["errorType"] == "Sandbox.Timedout"
            assert await process.wait() != 0  # the runtime interface client gives up, as its sandbox would end

    run(work())


def test_what_is_not_the_runtime_api_is_refused_and_garbage_cut_off():
    async def work() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404")
            await reader.readuntil(b"}")
            writer.write(b"nonsense\r\n\r\n")
            assert await reader.read() == b""
            writer.close()

    run(work())


def test_chunked_answers_are_read_whole():
    async def work() -> None:
        async with serving() as (probe, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            call = asyncio.create_task(invoke(probe, {}))
            writer.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request_id = head.split("Lambda-Runtime-Aws-Request-Id: ")[1].split("\r\n")[0]
            await reader.readexactly(2)
            path = f"/2018-06-01/runtime/invocation/{request_id}/response"
            writer.write(f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            writer.write(b'4\r\n{"a"\r\n4\r\n: 1}\r\n0\r\nX-Trailer: 1\r\n\r\n')
            assert await call == {"a": 1}
            writer.close()

    run(work())


def test_settings_are_read_from_the_environment():
    found = from_environment({"LAMBDA_RUNTIME_API_PORTS": "a=9001, b=9002", "LAMBDA_RUNTIME_API_QUEUE_WAIT_S": "5"})
    assert dict(found.ports) == {"a": 9001, "b": 9002}
    assert (found.queue_length, found.queue_wait_s) == (1000, 5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAMBDA_RUNTIME_API_PORTS", "a"),
        ("LAMBDA_RUNTIME_API_PORTS", "a=none"),
        ("LAMBDA_RUNTIME_API_PORTS", "a=1,b=1"),
        ("LAMBDA_RUNTIME_API_PORTS", "a=1,a=2"),
        ("LAMBDA_RUNTIME_API_PORTS", "a=70000"),
        ("LAMBDA_RUNTIME_API_QUEUE", "many"),
        ("LAMBDA_RUNTIME_API_QUEUE_WAIT_S", "0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(variable, value):
    with pytest.raises(SettingsError, match=variable):
        from_environment({variable: value})
