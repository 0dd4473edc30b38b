"""Groups and their members: plain state, no gRPC, no clock of its own."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from skyfan.comm.errors import GroupRefused, name_ranks
from skyfan.comm.rendezvous.limits import MIN_TOKEN_LENGTH
from skyfan.comm.rendezvous.queues import Outbox
from skyfan.errors import SkyfanError

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
    """What the server keeps of a token."""
    if len(token) < MIN_TOKEN_LENGTH:
        raise GroupRefused(f"the group's token must have at least {MIN_TOKEN_LENGTH} characters.")
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True)
class Candidate:
    """An address at which a rank may be reached."""

    address: str
    port: int


@dataclass(frozen=True)
class FullEvent:
    """All ranks are there; endpoints by rank."""

    endpoints: tuple[tuple[Candidate, ...], ...]
    formation_s: float


@dataclass(frozen=True)
class PathsEvent:
    """Which peers of this rank are relayed."""

    relayed: tuple[int, ...]


@dataclass(frozen=True)
class LostEvent:
    """A rank died or gave up."""

    rank: int
    reason: str


@dataclass(frozen=True)
class LeftEvent:
    """A rank is done."""

    rank: int


@dataclass(frozen=True)
class EndEvent:
    """The membership is over; `error` says why, if it is not this rank's own wish."""

    error: SkyfanError | None


Event: TypeAlias = FullEvent | PathsEvent | LostEvent | LeftEvent | EndEvent


class Member:
    """One rank in one group."""

    def __init__(self, group: "Group", rank: int, now: float) -> None:
        self.group = group
        self.rank = rank
        self.key = secrets.token_hex(16)
        self.last_seen = now
        self.endpoints: tuple[Candidate, ...] | None = None
        self.direct: frozenset[int] | None = None
        self.outbox = Outbox(group.terms.capacity_bytes)
        # A member gets at most: full, paths, one event a peer, end.
        self._events: asyncio.Queue[Event] = asyncio.Queue(group.terms.world_size + 8)

    def tell(self, event: Event) -> None:
        """Queue an event for this member."""
        self._events.put_nowait(event)

    async def next_event(self) -> Event:
        """Wait for the next event."""
        return await self._events.get()


class Group:
    """Forming until all ranks are there, then full, then over."""

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self.session = secrets.token_hex(16)
        self.created_at = now
        self.members: dict[int, Member] = {}
        self.gone: dict[int, str] = {}
        self.full = False

    @property
    def over(self) -> bool:
        """Nobody is left of a group that was full."""
        return self.full and not self.members

    def require_same(self, terms: Terms, rank: int | None = None) -> None:
        """A rank must bring the group's token and agree on its terms."""
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
        """Let a rank in."""
        if rank in self.members:
            raise GroupRefused(f"rank {rank} has already joined {self.terms}; give every process its own rank.")
        if self.full:
            raise GroupRefused(
                f"rank {rank} comes too late: {self.terms} was full and {name_ranks([rank])} is gone "
                f"({self.gone.get(rank, 'unknown')}); start a new group."
            )
        member = self.members[rank] = Member(self, rank, now)
        return member

    def missing(self) -> list[int]:
        """Ranks that have not joined yet."""
        return [rank for rank in range(self.terms.world_size) if rank not in self.members]

    def tell_all(self, event: Event) -> None:
        """The same event to every member."""
        for member in self.members.values():
            member.tell(event)

    def tell_if_full(self, now: float) -> bool:
        """Announce that all are there, and (direct) that all addresses are known."""
        ready = len(self.members) == self.terms.world_size and all(
            self.terms.channel != "direct" or member.endpoints is not None for member in self.members.values()
        )
        if self.full or not ready:
            return False
        self.full = True
        endpoints = tuple(self.members[rank].endpoints or () for rank in range(self.terms.world_size))
        self.tell_all(FullEvent(endpoints, now - self.created_at))
        return True

    def tell_paths_if_known(self) -> None:
        """A pair is direct if both ends say so: one verdict, so that they cannot disagree."""
        members = self.members.values()
        if len(members) < self.terms.world_size or any(member.direct is None for member in members):
            return
        for member in members:
            member.tell(PathsEvent(tuple(sorted(self._relayed(member)))))

    def _relayed(self, member: Member) -> Iterable[int]:
        for peer in self.members.values():
            if peer is not member and not (peer.rank in (member.direct or ()) and member.rank in (peer.direct or ())):
                yield peer.rank

    def remove(self, member: Member, reason: str) -> None:
        """Forget a member; while the group forms, its place is free again."""
        self.members.pop(member.rank, None)
        self.gone[member.rank] = reason
        member.outbox.close()
