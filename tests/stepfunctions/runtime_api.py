"""The AWS Lambda Runtime API for one worker: gives it events, takes its answers.

"Using the Lambda runtime API for custom runtimes", https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
(read 2026-11).
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_ANSWER = re.compile(r"/2018-06-01/runtime/(?:invocation/[^/]+/(response|error)|(init)/error)")


@dataclass
class Worker:
    """A handler under AWS's runtime interface client; `log` is what it wrote."""

    events: "queue.Queue[tuple[bytes, float] | None]" = field(default_factory=queue.Queue)
    answers: "queue.Queue[tuple[str, Any]]" = field(default_factory=queue.Queue)
    log: Path = Path()

    def invoke(self, event: Mapping[str, Any], *, within_s: float = 120, timeout_s: float = 120) -> Any:
        """The handler's answer; an error comes back as the client reported it. `within_s`: the function's time-out."""
        self.events.put((json.dumps(event).encode(), within_s))
        try:
            kind, answer = self.answers.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no answer within {timeout_s} s; it wrote:\n{self.log.read_text()}") from None
        assert kind != "init", answer
        return answer

    def logged(self) -> list[dict[str, Any]]:
        """The JSON lines among what it wrote."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def runtime_api(log: Path) -> Iterator[tuple[Worker, int]]:
    """A worker's end of the API, on a port of 127.0.0.1; the worker is for the caller to start, and writes to `log`."""
    running = Worker(log=log)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _requests_of(running))
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield running, server.server_port
    finally:
        running.events.put(None)
        server.shutdown()
        serving.join(10)
        server.server_close()


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


def _requests_of(running: Worker) -> type[BaseHTTPRequestHandler]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            taken = running.events.get()
            if taken is None:
                return
            body, within_s = taken
            headers = {
                "Content-Type": "application/json",  # the client's C part cannot do without
                "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + within_s) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:skyfan",
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
            }
            self._reply(200, body, headers)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match = _ANSWER.fullmatch(self.path)
            assert match, self.path
            running.answers.put((match[1] or match[2], json.loads(body)))
            self._reply(202, b"{}", {})

        def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    return Requests
