"""A gRPC server with health, reflection and a drain on SIGTERM; the same for every service."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skyfan.rpc.channel_options import server_options
from skyfan.rpc.credentials import bind, is_loopback
from skyfan.rpc.interceptor import CallInterceptor
from skyfan.rpc.service_token import TOKEN_VARIABLE, shared_token

DRAIN_S = 20.0
# With the time above less than the grace period of compose.yaml.
LEAVE_S = 3.0
# As many as `asyncio.to_thread` has threads, on which calls compute: one that was taken begins at once, one more is
# refused at once, and none waits its deadline out behind others.
MAX_CONCURRENT_CALLS = min(32, (os.cpu_count() or 1) + 4)
# Python's own 5 ms for each step of the loop, while threads compute, would make 64 refusals take seconds.
SWITCH_INTERVAL_S = 0.0005


async def serve(
    service: str,
    full_name: str,
    register: Callable[[aio.Server], None],
    address: str,
    *,
    announce: bool = False,
    max_concurrent_calls: int,
) -> None:
    """Serves until SIGTERM or SIGINT, then lets calls in flight end within `DRAIN_S` seconds.

    With `announce` the port is written to standard output as one JSON line, and the server also stops when
    standard input closes: a parent process that dies takes its servers with it.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    log = structlog.get_logger(service)
    server = aio.server(
        interceptors=[CallInterceptor(service, max_concurrent_calls)],
        options=server_options(),
    )
    register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = bind(server, address)
    if not shared_token() and not is_loopback(address):
        log.warning(f"any host that reaches {address} can use this server; set {TOKEN_VARIABLE} on both ends.")
    await server.start()
    for name in ("", full_name):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("serving", port=port)
    stop = stop_event(watch_stdin=announce)
    if announce:
        announce_ports(service=service, port=port)
    await stop.wait()
    log.info("draining", at_most_s=DRAIN_S)
    await checks.enter_graceful_shutdown()
    await server.stop(DRAIN_S)
    log.info("stopped")
    _leave_within(LEAVE_S)


def _leave_within(limit_s: float) -> None:
    """Ends this process then, even if a thread is still in a call that nobody waits for any more.

    Python would wait for such a thread, minutes for a conversion. Whatever it writes is atomic or write-once.
    """
    leaving = threading.Timer(limit_s, os._exit, (0,))
    leaving.daemon = True
    leaving.start()


def announce_ports(**ports: str | int) -> None:
    """Writes one line of JSON to standard output, which is standard error from then on.

    Nobody reads more than that line: a library that says much there (ONEDNN_VERBOSE) would block when the pipe is full,
    and a process that outlives this one would keep the pipe open, by which the parent sees that this one has ended.
    """
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def stop_event(*, watch_stdin: bool) -> asyncio.Event:
    """Set on SIGTERM or SIGINT and, with `watch_stdin`, when standard input closes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if watch_stdin:

        def at_input() -> None:
            if not os.read(sys.stdin.fileno(), 1):
                loop.remove_reader(sys.stdin)
                stop.set()

        loop.add_reader(sys.stdin, at_input)
    return stop
