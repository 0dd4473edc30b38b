"""The AWS Lambda Runtime API for one worker: gives it events, takes its answers.

"Using the Lambda runtime API for custom runtimes", https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
(read 2026-11).
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfan_localstack.runtime_api.dispatch import Function, Invocation, Outcome
from skyfan_localstack.runtime_api.server import RuntimeApiServer

ROOT = Path(__file__).parents[3]
_ARN = "arn:aws:lambda:us-east-1:000000000000:function:skyfan"
_TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"


@dataclass
class Worker:
    """A handler under AWS's runtime interface client; `log` is what it wrote."""

    function: Function
    loop: asyncio.AbstractEventLoop
    log: Path

    def invoke(self, event: Mapping[str, Any], *, within_s: float = 120) -> Any:
        """The handler's answer; an error comes back as the client reported it. `within_s`: the function's time-out."""

        async def call() -> Outcome:
            return await self.function.invoke(
                Invocation(str(uuid.uuid4()), json.dumps(event).encode(), within_s, _ARN, _TRACE)
            )

        outcome = self.run(call())
        assert outcome.status != "timeout", f"no answer within {within_s} s; it wrote:\n{self.log.read_text()}"
        return json.loads(outcome.payload)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` gives on the server's loop, from this thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def logged(self) -> list[dict[str, Any]]:
        """The JSON lines among what it wrote."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def runtime_api(log: Path) -> Iterator[tuple[Worker, int]]:
    """A worker's end of the API, on a port of 127.0.0.1; the worker is for the caller to start, and writes to `log`."""
    running = Worker(Function("function", queue_length=10, queue_wait_s=120), asyncio.new_event_loop(), log)
    server = RuntimeApiServer({"function": running.function}, {"function": 0}, host="127.0.0.1")
    serving = threading.Thread(target=running.loop.run_forever, daemon=True)
    serving.start()
    try:
        running.run(server.start())
        yield running, server.bound["function"]
    finally:
        running.run(server.close())
        running.loop.call_soon_threadsafe(running.loop.stop)
        serving.join(10)
        running.loop.close()


def function_environment(service: str, port: int) -> dict[str, str]:
    """What Lambda sets in a function's environment, as far as handlers look at it."""
    return {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": f"skyfan-{service}",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"2026/11/26/[$LATEST]{uuid.uuid4().hex}",
    }


@contextmanager
def worker(service: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Worker]:
    """`services.<service>`'s handler in a process of its own, as its image starts it."""
    with runtime_api(folder / f"{service}.log") as (running, port), running.log.open("w") as log:
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "SKYFAN_LOG_FORMAT": "json",
            **function_environment(service, port),
            **environment,
        }
        command = [sys.executable, "-m", "awslambdaric", f"services.{service}.lambda_handler.handler"]
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield running
        finally:
            process.kill()
            process.wait(10)
