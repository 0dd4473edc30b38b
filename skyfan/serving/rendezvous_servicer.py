"""The gRPC side of the rendezvous service: messages to calls of the registry and back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

from grpc import aio

from skyfan.comm.errors import GroupRefused
from skyfan.comm.rendezvous.group_registry import GroupRegistry
from skyfan.comm.rendezvous.groups import EndEvent, Member, Terms, digest
from skyfan.comm.rendezvous.limits import CAPACITY_BYTES
from skyfan.comm.rendezvous.observer import Observer
from skyfan.errors import Transient
from skyfan.v1 import rendezvous_pb2 as pb
from skyfan.v1 import rendezvous_pb2_grpc as pb_grpc

MEMBER_KEY = "skyfan-member"
_FIRST_REQUEST_S = 10.0

Context: TypeAlias = aio.ServicerContext[Any, Any]


class Servicer(pb_grpc.RendezvousServicer):
    """`skyfan.v1.Rendezvous` over the registry of groups."""

    def __init__(self, registry: GroupRegistry, observer: Observer) -> None:
        self._registry = registry
        self._observer = observer
        self._joining = 0

    async def JoinGroup(  # type: ignore[override]
        self, requests: AsyncIterator[pb.MemberRequest], context: Context
    ) -> None:
        """A membership from its join to its end; see the proto file."""
        join = await self._first_request(requests)
        member = self._registry.join(_terms(join.terms), join.rank, time.monotonic())
        terms = member.group.terms
        sending = asyncio.Lock()
        try:
            joined = pb.Joined(
                member_key=member.key,
                session=member.group.session,
                observer_port=self._observer.port,
                heartbeat_timeout_s=terms.heartbeat_timeout_s,
            )
            await context.write(pb.MemberEvent(joined=joined))
            listening = asyncio.create_task(self._listen(member, requests, context, sending))
            try:
                await self._send_events(member, context, sending, listening)
            finally:
                listening.cancel()
        finally:
            self._registry.disconnect(member, time.monotonic())

    async def _first_request(self, requests: AsyncIterator[pb.MemberRequest]) -> pb.Join:
        """The join that every membership begins with; streams that have not sent it yet are bounded."""
        limit = self._registry.limits.members
        if self._joining >= limit:
            raise Transient(f"{limit} ranks are about to join this rendezvous server; try again later.")
        self._joining += 1
        try:
            first = await asyncio.wait_for(anext(requests, None), _FIRST_REQUEST_S)
        except TimeoutError as error:
            raise GroupRefused(f"no join came within {_FIRST_REQUEST_S:g} s.") from error
        finally:
            self._joining -= 1
        if first is None or first.WhichOneof("kind") != "join":
            raise GroupRefused("the first request of a membership must be a join.")
        return first.join

    async def _listen(
        self, member: Member, requests: AsyncIterator[pb.MemberRequest], context: Context, sending: asyncio.Lock
    ) -> None:
        async for request in requests:
            now = time.monotonic()
            kind = request.WhichOneof("kind")
            if kind == "heartbeat":
                self._registry.heartbeat(member, now)
                async with sending:
                    await context.write(pb.MemberEvent(heartbeat=request.heartbeat))
            elif kind == "endpoints":
                self._registry.endpoints(member, request.endpoints, now)
            elif kind == "links":
                self._registry.links(member, frozenset(request.links.peers))
            elif kind == "leave":
                culprit = request.leave.culprit if request.leave.HasField("culprit") else None
                self._registry.leave(member, request.leave.error, culprit, now)
            else:
                raise GroupRefused(f"a member cannot send {kind!r} after it has joined.")

    async def _send_events(
        self, member: Member, context: Context, sending: asyncio.Lock, listening: "asyncio.Task[None]"
    ) -> None:
        """Send the member its events until the membership or the rank's own stream ends."""
        while True:
            next_event = asyncio.create_task(member.next_event())
            try:
                await asyncio.wait({next_event, listening}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not next_event.done():
                    next_event.cancel()
            if not next_event.done():
                listening.result()
                return
            event = next_event.result()
            if isinstance(event, EndEvent):
                if event.error is not None:
                    raise event.error
                return
            async with sending:
                await context.write(event)

    async def Relay(  # type: ignore[override]
        self, requests: AsyncIterator[pb.RelayFrame], context: Context
    ) -> None:
        """The relayed bytes of one member in both directions; see the proto file."""
        metadata = dict(context.invocation_metadata() or ())
        member = self._registry.begin_relay(str(metadata.get(MEMBER_KEY, "")))
        await context.send_initial_metadata(())
        forwarding = asyncio.create_task(self._forward(member, context))
        try:
            async for frame in requests:
                await self._registry.relay(member, frame)
        finally:
            forwarding.cancel()
            member.relaying = False

    async def _forward(self, member: Member, context: Context) -> None:
        while True:
            frame = await member.relay_queue.get()
            try:
                await context.write(frame)
            finally:
                member.relay_queue.sent(frame)


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
