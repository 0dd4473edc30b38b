"""The rendezvous service on a port, with health, reflection and the address observer beside it."""

import asyncio
import time

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skyfan.comm.rendezvous.group_registry import GroupRegistry
from skyfan.comm.rendezvous.observer import Observer
from skyfan.rpc.channel_options import Options, server_options
from skyfan.rpc.credentials import bind, is_loopback
from skyfan.rpc.interceptor import CallInterceptor
from skyfan.rpc.service_token import TOKEN_VARIABLE, shared_token
from skyfan.serving.rendezvous_servicer import Servicer
from skyfan.settings import RendezvousLimits
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc

FULL_NAME = pb.DESCRIPTOR.services_by_name["Rendezvous"].full_name
DRAIN_S = 10.0
# A relayed frame has at most 512 KiB (skyfan.comm.relay.CHUNK_BYTES); no other message is larger.
MAX_REQUEST_BYTES = 2**20
_SWEEP_S = 0.25


class RendezvousServer:
    """The service on a port; `limits` default to those of `skyfan.settings`."""

    def __init__(self, limits: RendezvousLimits | None = None) -> None:
        self.registry = GroupRegistry(limits)
        self.observer = Observer()
        self.port = 0
        self._log = structlog.get_logger("rendezvous")
        self._health = health.aio.HealthServicer()
        self._server = aio.server(
            interceptors=[CallInterceptor("rendezvous")], options=_options(self.registry.limits.members)
        )
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, observer_port: int) -> None:
        """Listen on `host`; ports of 0 take free ones (`self.port`, `self.observer.port`).

        Raises:
            BadInput: the address cannot be listened on, or only some of the TLS files are named.
            OSError: the observer's port is taken.
        """
        pb_grpc.add_RendezvousServicer_to_server(Servicer(self.registry, self.observer), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((FULL_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        await self.observer.start(host, observer_port)
        listen = f"[{host}]" if ":" in host else host
        self.port = bind(self._server, f"{listen}:{port}")
        await self._server.start()
        for name in ("", FULL_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._sweeping = asyncio.create_task(self._sweep())
        self._log.info("serving", host=host, port=self.port, observer_port=self.observer.port)
        if not shared_token() and not is_loopback(f"{listen}:{port}"):
            self._log.warning(f"any host that reaches {host} can use this server; set {TOKEN_VARIABLE} on both ends.")

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Take no new groups; let those that exist end within `drain_s` seconds."""
        self._log.info("draining", at_most_s=drain_s, groups=self.registry.group_count)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(drain_s)
        await self.observer.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._log.info("stopped")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                self.registry.sweep(time.monotonic())
            # Nobody hears this task: without it, ranks that die are missed by none of the groups that come later.
            except Exception:  # noqa: BLE001
                self._log.exception("looking for lost ranks failed")


def max_connections(members: int) -> int:
    """Connections that a server for `members` ranks accepts: one a rank, and some for probes."""
    return members + 256


def _options(members: int) -> Options:
    """Room for all members at once; connections on which nothing happens are closed."""
    return [
        *(option for option in server_options() if option[0] != "grpc.max_receive_message_length"),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # Even if one connection carries all members, with two streams each.
        ("grpc.max_concurrent_streams", 2 * members + 64),
        ("grpc.max_allowed_incoming_connections", max_connections(members)),
        ("grpc.max_connection_idle_ms", 60_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
    ]
