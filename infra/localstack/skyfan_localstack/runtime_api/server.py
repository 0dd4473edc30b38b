"""The Runtime API's four paths, one listening port a function.

AWS: "Using the Lambda runtime API for custom runtimes",
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html (as of 2026-11).

A worker is its connection. AWS's runtime interface clients keep theirs open while a handler runs, so that a
worker's death ends it at once; TCP keep-alive finds a worker that was cut off from the network.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import Mapping

from skyfan_localstack.runtime_api.dispatch import Function, Invocation, UnknownInvocationError, Worker
from skyfan_localstack.runtime_api.http11 import ProtocolError, Request, read_request, response

LOG = logging.getLogger(__name__)
_RUNTIME = "/2018-06-01/runtime"
_ANSWER = re.compile(rf"{_RUNTIME}/invocation/([^/]+)/(response|error)")
_ACCEPTED = response(202, b'{"status":"OK"}')
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 5, 5, 3


class RuntimeApiServer:
    """Serves every function on its port until closed."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        ports: Mapping[str, int],
        host: str = "0.0.0.0",  # noqa: S104 - the containers' network
    ) -> None:
        self._functions, self._ports, self._host = functions, ports, host
        self._servers: list[asyncio.Server] = []
        self._connections: list[_Connections] = []
        self.bound: dict[str, int] = {}

    async def start(self) -> None:
        """Listen; `bound` holds the ports, chosen by the system where 0 was asked for.

        Raises:
            OSError: a port is taken.
        """
        for name, function in self._functions.items():
            connections = _Connections(function)
            server = await asyncio.start_server(connections.serve, self._host, self._ports[name])
            self._connections.append(connections)
            self._servers.append(server)
            self.bound[name] = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut off the workers."""
        for server in self._servers:
            server.close()
        for connections in self._connections:
            connections.close()


class _Connections:
    def __init__(self, function: Function) -> None:
        self._function = function
        self._writers: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        self._writers.add(writer)
        worker = Worker("{}:{}".format(*writer.get_extra_info("peername")[:2]))
        # One request is always being read: the end of the stream is how the worker's death shows.
        incoming = asyncio.create_task(read_request(reader))
        try:
            while (request := await incoming) is not None:
                incoming = asyncio.create_task(read_request(reader))
                reply = await self._reply(worker, request, incoming)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (ProtocolError, ConnectionError) as error:
            LOG.warning("%s: worker %s is cut off: %s", self._function.name, worker.name, error)
        finally:
            incoming.cancel()
            if worker.current is not None:
                LOG.warning(
                    "%s: worker %s left in the middle of %s",
                    self._function.name,
                    worker.name,
                    worker.current.request_id,
                )
            self._function.disconnected(worker)
            self._writers.discard(writer)
            writer.close()

    async def _reply(self, worker: Worker, request: Request, incoming: "asyncio.Task[Request | None]") -> bytes | None:
        if (request.method, request.path) == ("GET", f"{_RUNTIME}/invocation/next"):
            return await self._next(worker, incoming)
        if (request.method, request.path) == ("POST", f"{_RUNTIME}/init/error"):
            LOG.error(
                "%s: worker %s failed to start: %s",
                self._function.name,
                worker.name,
                request.body.decode(errors="replace"),
            )
            self._function.initialisation_failed(request.body)
            return _ACCEPTED
        if request.method == "POST" and (match := _ANSWER.fullmatch(request.path)):
            return self._answer(worker, match[1], request.body, is_error=match[2] == "error")
        return _refusal(404, "InvalidPath", f"{request.method} {request.path} is not of the Runtime API")

    async def _next(self, worker: Worker, incoming: "asyncio.Task[Request | None]") -> bytes | None:
        taking = asyncio.create_task(self._function.next_invocation(worker))
        await asyncio.wait({taking, incoming}, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            taking.cancel()
            return None
        invocation = taking.result()
        return response(200, invocation.payload, _invocation_headers(invocation))

    def _answer(self, worker: Worker, request_id: str, body: bytes, *, is_error: bool) -> bytes:
        try:
            fits = self._function.respond(request_id, body, is_error=is_error)
        except UnknownInvocationError:
            LOG.warning("%s: worker %s answered %s too late", self._function.name, worker.name, request_id)
            return _refusal(400, "InvalidRequestID", "Invalid request ID")
        finally:
            worker.current = None
        return _ACCEPTED if fits else _refusal(413, "RequestEntityTooLarge", "Response is larger than 6 MB")


def _invocation_headers(invocation: Invocation) -> dict[str, str]:
    return {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
        "Lambda-Runtime-Trace-Id": invocation.trace_id,
    }


def _refusal(status: int, kind: str, message: str) -> bytes:
    return response(status, json.dumps({"errorType": kind, "errorMessage": message}).encode())


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
