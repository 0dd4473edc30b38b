"""Groups and their members: state only, without gRPC and without a clock."""

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from skyfan.comm.errors import GroupRefused, name_ranks
from skyfan.comm.rendezvous.limits import MAX_TOKEN_LENGTH, MIN_TOKEN_LENGTH
from skyfan.comm.rendezvous.relay_queue import RelayQueue
from skyfan.errors import SkyfanError
from skyfan.v1 import rendezvous_pb2 as pb

Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Terms:
    """What all ranks of a group must agree on; the token only as a digest."""

    run: str
    name: str
    world_size: int
    channel: str
    token_digest: bytes = field(repr=False)
    capacity_bytes: int
    join_deadline_s: float
    heartbeat_timeout_s: float

    @property
    def key(self) -> Key:
        """Groups of the same name in two runs are two groups."""
        return self.run, self.name

    def __str__(self) -> str:
        return f"group {self.name!r} of run {self.run!r}"


def digest(token: str) -> bytes:
    """SHA-256 of a group's token: all that the server keeps of it.

    Raises:
        GroupRefused: the token is too short or too long.
    """
    if len(token) < MIN_TOKEN_LENGTH:
        raise GroupRefused(f"the group's token must have at least {MIN_TOKEN_LENGTH} characters.")
    if len(token) > MAX_TOKEN_LENGTH:
        raise GroupRefused(f"the group's token must have at most {MAX_TOKEN_LENGTH:,} characters.")
    return hashlib.sha256(token.encode()).digest()


def require_address(endpoint: pb.Endpoint) -> None:
    """Check what came from the network.

    Raises:
        GroupRefused: it is not an IP address with a port.
    """
    try:
        ipaddress.ip_address(endpoint.address)
    except ValueError as error:
        raise GroupRefused(f"{endpoint.address[:64]!r} is not an IP address.") from error
    if not 0 < endpoint.port < 2**16:
        raise GroupRefused(f"{endpoint.port} is not a TCP port.")


@dataclass(frozen=True)
class EndEvent:
    """The membership has ended; `error` is the reason unless the rank itself left."""

    error: SkyfanError | None


Event: TypeAlias = pb.MemberEvent | EndEvent
"""What a member is told, as it is sent, and at last that its membership has ended."""


class Member:
    """One rank in one group."""

    def __init__(self, group: "Group", rank: int, now: float) -> None:
        self.group = group
        self.rank = rank
        self.key = secrets.token_hex(16)
        self.last_seen = now
        self.endpoints: pb.Endpoints | None = None
        self.direct: frozenset[int] | None = None
        self.relay_queue = RelayQueue(group.terms.capacity_bytes)
        self.relaying = False
        # A member is sent at most: full, paths, one event a peer, end.
        self._events: asyncio.Queue[Event] = asyncio.Queue(group.terms.world_size + 8)

    def has_peer(self, rank: int) -> bool:
        """Whether `rank` is another rank of this member's group."""
        return 0 <= rank < self.group.terms.world_size and rank != self.rank

    def notify(self, event: Event) -> None:
        """Queue an event for this member."""
        self._events.put_nowait(event)

    async def next_event(self) -> Event:
        """Wait for the next event."""
        return await self._events.get()


class Group:
    """Forming until all ranks have joined, then full, then over."""

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self.session = secrets.token_hex(16)
        self.created_at = now
        self.members: dict[int, Member] = {}
        self.gone: dict[int, str] = {}
        self.full = False

    @property
    def over(self) -> bool:
        """Whether the group was full and all ranks have left."""
        return self.full and not self.members

    def require_same(self, terms: Terms, rank: int | None = None) -> None:
        """Check that a rank has the group's token and agrees on its terms.

        Raises:
            GroupRefused: it differs; the message has the difference.
        """
        if not hmac.compare_digest(terms.token_digest, self.terms.token_digest):
            raise GroupRefused(f"{self.terms} has another token; give all ranks of a run the same token.")
        for name, what in (("world_size", "world size"), ("channel", "channel")):
            ours, theirs = getattr(self.terms, name), getattr(terms, name)
            if ours != theirs:
                who = "" if rank is None else f"rank {rank} "
                raise GroupRefused(
                    f"{who}asks for {what} {theirs} but {self.terms} has {what} {ours}; start all ranks alike."
                )

    def admit(self, rank: int, now: float) -> Member:
        """Add a rank.

        Raises:
            GroupRefused: the rank has joined already, or the group was full.
        """
        if rank in self.members:
            raise GroupRefused(f"rank {rank} has already joined {self.terms}; give every process its own rank.")
        if self.full:
            raise GroupRefused(
                f"rank {rank} is too late: {self.terms} was full and {name_ranks([rank])} is gone "
                f"({self.gone.get(rank, 'unknown')}); start a new group."
            )
        member = self.members[rank] = Member(self, rank, now)
        return member

    def missing(self) -> list[int]:
        """Ranks that have not joined yet."""
        return [rank for rank in range(self.terms.world_size) if rank not in self.members]

    def notify_all(self, event: Event) -> None:
        """Queue the same event for every member."""
        for member in self.members.values():
            member.notify(event)

    def notify_if_full(self, now: float) -> bool:
        """Queue a `Full` event once all ranks have joined and, in a direct group, sent their addresses."""
        ready = len(self.members) == self.terms.world_size and all(
            self.terms.channel != "direct" or member.endpoints is not None for member in self.members.values()
        )
        if self.full or not ready:
            return False
        self.full = True
        endpoints = [self.members[rank].endpoints or pb.Endpoints() for rank in range(self.terms.world_size)]
        self.notify_all(pb.MemberEvent(full=pb.Full(endpoints=endpoints, formation_s=now - self.created_at)))
        return True

    def notify_paths_if_known(self) -> None:
        """Queue every member's paths once all have reported; a pair is direct if both ends reported it.

        The server decides, so that the two ends of a pair cannot disagree.
        """
        members = self.members.values()
        if len(members) < self.terms.world_size or any(member.direct is None for member in members):
            return
        for member in members:
            member.notify(pb.MemberEvent(paths=pb.Paths(relayed=sorted(self._relayed(member)))))

    def _relayed(self, member: Member) -> Iterable[int]:
        for peer in self.members.values():
            if peer is not member and not (peer.rank in (member.direct or ()) and member.rank in (peer.direct or ())):
                yield peer.rank

    def remove(self, member: Member, reason: str) -> None:
        """Remove a member; while the group forms, its rank may join again."""
        self.members.pop(member.rank, None)
        self.gone[member.rank] = reason
        member.relay_queue.close()
