"""The gRPC side of the rendezvous service: messages to calls of the core and back."""

import asyncio
import functools
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import structlog
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skyfan.comm.errors import GroupRefused
from skyfan.comm.rendezvous.groups import (
    Candidate,
    EndEvent,
    Event,
    FullEvent,
    LeftEvent,
    LostEvent,
    Member,
    PathsEvent,
    Terms,
    digest,
)
from skyfan.comm.rendezvous.groups_registry import Rendezvous
from skyfan.comm.rendezvous.limits import CAPACITY_BYTES
from skyfan.comm.rendezvous.observer import Observer
from skyfan.comm.rendezvous.queues import Frame
from skyfan.errors import SkyfanError
from skyfan.rpc.credentials import TOKEN_VARIABLE, bind, shared_token
from skyfan.rpc.errors import ERROR_KEY, TOKEN_KEY, status_of
from skyfan.rpc.interceptor import CallInterceptor
from skyfan.rpc.options import server_options
from skyfan.settings import RendezvousLimits
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc

FULL_NAME = pb.DESCRIPTOR.services_by_name["Rendezvous"].full_name
MEMBER_KEY = "skyfan-member"
DRAIN_S = 10.0
_SWEEP_S = 0.25
_FIRST_REQUEST_S = 10.0

Context: TypeAlias = aio.ServicerContext[Any, Any]
Behaviour: TypeAlias = Callable[[Any, AsyncIterator[Any], Context], Awaitable[None]]


def _answers_errors(behaviour: Behaviour) -> Behaviour:
    """Streams in both directions, which the shared interceptor leaves alone: the same token, the same status."""

    @functools.wraps(behaviour)
    async def answer(servicer: Any, requests: AsyncIterator[Any], context: Context) -> None:
        try:
            _check_token(context)
            await behaviour(servicer, requests, context)
        except SkyfanError as error:
            await abort(error, context)

    return answer


def _check_token(context: Context) -> None:
    expected = shared_token()
    given = str(dict(context.invocation_metadata() or ()).get(TOKEN_KEY, ""))
    if expected and not hmac.compare_digest(given.encode(), expected.encode()):
        raise GroupRefused(f"the call carries no valid token; set {TOKEN_VARIABLE} alike on both ends.")


async def abort(error: SkyfanError, context: Context) -> NoReturn:
    """End the call with the status of `error`."""
    await context.abort(status_of(error), str(error), ((ERROR_KEY, error.error_name()),))


class Servicer(pb_grpc.RendezvousServicer):
    """`skyfan.v1.Rendezvous` over the core."""

    def __init__(self, core: Rendezvous, observer: Observer) -> None:
        self._core = core
        self._observer = observer

    async def CreateGroup(self, request: pb.CreateGroupRequest, context: Context) -> pb.CreateGroupReply:
        """See the proto file."""
        return pb.CreateGroupReply(created=self._core.create(_terms(request.terms), time.monotonic()))

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.Stats:
        """See the proto file."""
        counters = self._core.counters
        return pb.Stats(
            groups=self._core.group_count,
            members=self._core.member_count,
            queued_bytes=self._core.queued.used_bytes,
            relayed_bytes=counters.relayed_bytes,
            groups_created=counters.groups_created,
            groups_refused=counters.groups_refused,
            ranks_lost=counters.ranks_lost,
            addresses_observed=counters.addresses_observed,
        )

    @_answers_errors  # grpc.aio takes handlers that write as well as those that yield
    async def Attend(  # type: ignore[override]
        self, requests: AsyncIterator[pb.AttendRequest], context: Context
    ) -> None:
        """See the proto file."""
        first = await _first(requests)
        if first is None or first.WhichOneof("kind") != "join":
            raise GroupRefused("the first request of a membership must be a join.")
        member = self._core.join(_terms(first.join.terms), first.join.rank, time.monotonic())
        terms = member.group.terms
        sending = asyncio.Lock()
        try:
            joined = pb.Joined(
                member_key=member.key,
                session=member.group.session,
                observer_port=self._observer.port,
                heartbeat_timeout_s=terms.heartbeat_timeout_s,
            )
            await context.write(pb.AttendEvent(joined=joined))
            listening = asyncio.create_task(self._listen(member, requests, context, sending))
            try:
                await self._tell(member, context, sending, listening)
            finally:
                listening.cancel()
        finally:
            self._core.disconnect(member, time.monotonic())

    async def _listen(
        self, member: Member, requests: AsyncIterator[pb.AttendRequest], context: Context, sending: asyncio.Lock
    ) -> None:
        async for request in requests:
            now = time.monotonic()
            kind = request.WhichOneof("kind")
            if kind == "heartbeat":
                self._core.heartbeat(member, now)
                async with sending:
                    await context.write(pb.AttendEvent(heartbeat=request.heartbeat))
            elif kind == "endpoints":
                found = tuple(Candidate(each.address, each.port) for each in request.endpoints.candidates)
                self._core.endpoints(member, found, now)
            elif kind == "links":
                self._core.links(member, frozenset(request.links.peers))
            elif kind == "leave":
                culprit = request.leave.culprit if request.leave.HasField("culprit") else None
                self._core.leave(member, request.leave.error, culprit, now)
            else:
                raise GroupRefused(f"a member cannot send {kind!r} after it has joined.")

    async def _tell(
        self, member: Member, context: Context, sending: asyncio.Lock, listening: "asyncio.Task[None]"
    ) -> None:
        """Pass events on until the membership ends or the rank's own stream does."""
        while True:
            next_event = asyncio.create_task(member.next_event())
            await asyncio.wait({next_event, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not next_event.done():
                next_event.cancel()
                listening.result()
                return
            event = next_event.result()
            if isinstance(event, EndEvent):
                if event.error is not None:
                    raise event.error
                return
            async with sending:
                await context.write(_message(event))

    @_answers_errors  # grpc.aio takes handlers that write as well as those that yield
    async def Relay(  # type: ignore[override]
        self, requests: AsyncIterator[pb.RelayFrame], context: Context
    ) -> None:
        """See the proto file."""
        metadata = dict(context.invocation_metadata() or ())
        member = self._core.find(str(metadata.get(MEMBER_KEY, "")))
        await context.send_initial_metadata(())
        forwarding = asyncio.create_task(self._forward(member, context))
        try:
            async for frame in requests:
                routed = Frame(member.rank, frame.data, frame.credit_bytes, frame.end)
                await self._core.relay(member, frame.peer, routed)
        finally:
            forwarding.cancel()

    async def _forward(self, member: Member, context: Context) -> None:
        while True:
            frame = await member.outbox.get()
            message = pb.RelayFrame(peer=frame.source, data=frame.data, credit_bytes=frame.credit_bytes, end=frame.end)
            try:
                await context.write(message)
            finally:
                member.outbox.sent(frame)


async def _first(requests: AsyncIterator[pb.AttendRequest]) -> pb.AttendRequest | None:
    try:
        return await asyncio.wait_for(anext(requests, None), _FIRST_REQUEST_S)
    except TimeoutError as error:
        raise GroupRefused(f"no join came within {_FIRST_REQUEST_S:g} s.") from error


def _terms(message: pb.GroupTerms) -> Terms:
    return Terms(
        run=message.run,
        name=message.name,
        world_size=message.world_size,
        channel=message.channel,
        token_digest=digest(message.token),
        capacity_bytes=message.capacity_bytes or CAPACITY_BYTES,
        join_deadline_s=message.join_deadline_s,
        heartbeat_timeout_s=message.heartbeat_timeout_s,
    )


def _message(event: Event) -> pb.AttendEvent:
    if isinstance(event, FullEvent):
        endpoints = [
            pb.Endpoints(candidates=[pb.Endpoint(address=each.address, port=each.port) for each in candidates])
            for candidates in event.endpoints
        ]
        return pb.AttendEvent(full=pb.Full(endpoints=endpoints, formation_s=event.formation_s))
    if isinstance(event, PathsEvent):
        return pb.AttendEvent(paths=pb.Paths(relayed=event.relayed))
    if isinstance(event, LostEvent):
        return pb.AttendEvent(lost=pb.RankLost(rank=event.rank, reason=event.reason))
    assert isinstance(event, LeftEvent)
    return pb.AttendEvent(left=pb.RankLeft(rank=event.rank))


class RendezvousServer:
    """The service on a port, with health, reflection and the address observer beside it."""

    def __init__(self, limits: RendezvousLimits | None = None) -> None:
        self.core = Rendezvous(limits)
        self.observer = Observer(self.core.counters)
        self.port = 0
        self._log = structlog.get_logger("rendezvous")
        self._health = health.aio.HealthServicer()
        self._server = aio.server(
            interceptors=[CallInterceptor("rendezvous")],
            options=[*server_options(), ("grpc.max_concurrent_streams", 2 * self.core.limits.members + 64)],
        )
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, observer_port: int) -> None:
        """Listen; ports of 0 take free ones (`self.port`, `self.observer.port`)."""
        pb_grpc.add_RendezvousServicer_to_server(Servicer(self.core, self.observer), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((FULL_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        await self.observer.start(host, observer_port)
        listen = f"[{host}]" if ":" in host else host
        self.port = bind(self._server, f"{listen}:{port}")
        await self._server.start()
        for name in ("", FULL_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._sweeping = asyncio.create_task(self._sweep())
        self._log.info("serving", port=self.port, observer_port=self.observer.port)

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Take no new groups; let those that exist end within `drain_s`."""
        self._log.info("draining", at_most_s=drain_s, groups=self.core.group_count)
        await self._health.enter_graceful_shutdown()
        await self._server.stop(drain_s)
        await self.observer.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._log.info("stopped")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.core.sweep(time.monotonic())
