"""What the rendezvous server does, without gRPC: join, exchange addresses, decide paths, relay, expire."""

from collections import OrderedDict
from dataclasses import dataclass

import structlog

from skyfan.comm.errors import CommError, GroupIncomplete, GroupLimit, GroupRefused, name_ranks
from skyfan.comm.rendezvous.groups import (
    Candidate,
    EndEvent,
    Group,
    Key,
    LeftEvent,
    LostEvent,
    Member,
    Terms,
)
from skyfan.comm.rendezvous.limits import (
    ENDED_S,
    MAX_CANDIDATES,
    MAX_CAPACITY_BYTES,
    MAX_ENDED_GROUPS,
    MAX_NAME_LENGTH,
)
from skyfan.comm.rendezvous.queues import Budget, Frame
from skyfan.settings import RendezvousLimits

CHANNELS = ("direct", "relay")
MIN_HEARTBEAT_S, MAX_HEARTBEAT_S = 0.5, 120.0


@dataclass
class Counters:
    """Since the server started."""

    groups_created: int = 0
    groups_refused: int = 0
    ranks_lost: int = 0
    relayed_bytes: int = 0
    addresses_observed: int = 0


class Rendezvous:
    """All groups of one server. Every method takes the time, so that tests need not wait."""

    def __init__(self, limits: RendezvousLimits | None = None) -> None:
        self.limits = limits or RendezvousLimits()
        self.counters = Counters()
        self.queued = Budget(self.limits.queued_bytes)
        self._groups: dict[Key, Group] = {}
        self._members: dict[str, Member] = {}
        self._ended: OrderedDict[Key, float] = OrderedDict()
        self._log = structlog.get_logger("rendezvous")

    @property
    def group_count(self) -> int:
        """Groups that are forming or full."""
        return len(self._groups)

    @property
    def member_count(self) -> int:
        """Ranks of all groups."""
        return len(self._members)

    def create(self, terms: Terms, now: float) -> bool:
        """Make a group; False if it is there with the same terms."""
        try:
            return self._create(terms, now)
        except (GroupRefused, GroupLimit):
            self.counters.groups_refused += 1
            raise

    def _create(self, terms: Terms, now: float) -> bool:
        self._require_valid(terms)
        group = self._groups.get(terms.key)
        if group is not None:
            group.require_same(terms)
            return False
        if terms.key in self._ended:
            raise GroupRefused(f"{terms} is over; use another group name or run.")
        if len(self._groups) >= self.limits.groups:
            raise GroupLimit(f"the rendezvous server holds {self.limits.groups} groups already; try again later.")
        self._groups[terms.key] = Group(terms, now)
        self.counters.groups_created += 1
        self._log.info("group created", run=terms.run, group=terms.name, world_size=terms.world_size)
        return True

    def join(self, terms: Terms, rank: int, now: float) -> Member:
        """Let a rank into its group, which is made if it is not there."""
        try:
            self._require_valid(terms)
            if terms.key in self._groups:
                self._groups[terms.key].require_same(terms, rank)
            self._require_place(terms, rank)
            self._create(terms, now)
            member = self._groups[terms.key].admit(rank, now)
        except (GroupRefused, GroupLimit):
            self.counters.groups_refused += 1
            raise
        self._members[member.key] = member
        self._announce(member.group, now)
        return member

    def endpoints(self, member: Member, candidates: tuple[Candidate, ...], now: float) -> None:
        """A rank of a direct group says where it may be reached."""
        if member.endpoints is not None or len(candidates) > MAX_CANDIDATES:
            raise GroupRefused(f"rank {member.rank}: endpoints are sent once, at most {MAX_CANDIDATES} of them.")
        member.endpoints = candidates
        self._announce(member.group, now)

    def links(self, member: Member, peers: frozenset[int]) -> None:
        """A rank of a direct group says which peers it has an authenticated connection to."""
        member.direct = peers
        member.group.tell_paths_if_known()

    def heartbeat(self, member: Member, now: float) -> None:
        """A rank is alive."""
        member.last_seen = now

    def leave(self, member: Member, error: str, culprit: int | None, now: float) -> None:
        """A rank is done, or gives up because of `error`."""
        if error:
            if culprit is None:
                self._lose(member, member.rank, f"rank {member.rank} gave up: {error}", now)
            else:
                self._lose(member, culprit, error, now)
        else:
            self._remove(member, "it left", now)
            member.group.tell_all(LeftEvent(member.rank))
        member.tell(EndEvent(None))

    def disconnect(self, member: Member, now: float) -> None:
        """A rank's stream broke."""
        if self._members.get(member.key) is member:
            self._lose(member, member.rank, f"rank {member.rank} was lost: its connection to the server broke.", now)

    def find(self, key: str) -> Member:
        """The member with this key."""
        member = self._members.get(key)
        if member is None:
            raise GroupRefused("this member key is unknown: the rank has left, was lost, or its group is over.")
        return member

    async def relay(self, member: Member, peer: int, frame: Frame) -> None:
        """Pass a frame on; waits while the receiver's or the server's bound is reached."""
        target = member.group.members.get(peer)
        if peer >= member.group.terms.world_size or peer == member.rank:
            raise GroupRefused(f"rank {member.rank} relays to {peer}, which is not one of its peers.")
        if target is not None:
            await target.outbox.put(frame, self.queued)
            self.counters.relayed_bytes += len(frame.data)

    def sweep(self, now: float) -> None:
        """Find what time has decided: silent ranks, groups that never filled, groups too old."""
        for group in list(self._groups.values()):
            terms = group.terms
            for member in list(group.members.values()):
                silent_s = now - member.last_seen
                if silent_s > terms.heartbeat_timeout_s:
                    why = f"rank {member.rank} was lost: no sign of life for {silent_s:.1f} s."
                    member.tell(EndEvent(CommError(why)))
                    self._lose(member, member.rank, why, now)
            age_s = now - group.created_at
            if not group.full and age_s > terms.join_deadline_s:
                missing = group.missing()
                what = f"{name_ranks(missing)} did not join" if missing else "not all ranks sent their addresses"
                self._end(
                    group,
                    GroupIncomplete(f"{terms} was not full after {terms.join_deadline_s:g} s: {what}."),
                    now,
                )
            elif age_s > self.limits.lifetime_s:
                self._end(group, CommError(f"{terms} is older than {self.limits.lifetime_s} s and has expired."), now)
        while self._ended and now - next(iter(self._ended.values())) > ENDED_S:
            self._ended.popitem(last=False)

    def _announce(self, group: Group, now: float) -> None:
        if group.tell_if_full(now):
            self._log.info(
                "group full", run=group.terms.run, group=group.terms.name, formation_s=round(now - group.created_at, 3)
            )

    def _lose(self, member: Member, blamed: int, reason: str, now: float) -> None:
        group = member.group
        self._remove(member, reason, now)
        self.counters.ranks_lost += 1
        self._log.warning("rank lost", run=group.terms.run, group=group.terms.name, rank=member.rank, reason=reason)
        if group.full:
            group.tell_all(LostEvent(blamed, reason))

    def _remove(self, member: Member, reason: str, now: float) -> None:
        group = member.group
        self._members.pop(member.key, None)
        group.remove(member, reason)
        if group.over or (not group.members and not group.full):
            self._forget(group, now)

    def _end(self, group: Group, error: CommError | GroupIncomplete, now: float) -> None:
        group.tell_all(EndEvent(error))
        for member in list(group.members.values()):
            self._members.pop(member.key, None)
            group.remove(member, str(error))
        group.full = True  # over, not forming: its name is not free
        self._forget(group, now)

    def _forget(self, group: Group, now: float) -> None:
        self._groups.pop(group.terms.key, None)
        if group.full:
            self._ended[group.terms.key] = now
            while len(self._ended) > MAX_ENDED_GROUPS:
                self._ended.popitem(last=False)
        self._log.info("group over", run=group.terms.run, group=group.terms.name)

    def _require_place(self, terms: Terms, rank: int) -> None:
        if rank >= terms.world_size:
            raise GroupRefused(
                f"rank {rank} is one too many for {terms}: world size {terms.world_size} has ranks 0 to "
                f"{terms.world_size - 1}."
            )
        if len(self._members) >= self.limits.members:
            raise GroupLimit(f"the rendezvous server holds {self.limits.members} ranks already; try again later.")

    def _require_valid(self, terms: Terms) -> None:
        if not 0 < len(terms.name) <= MAX_NAME_LENGTH or not 0 < len(terms.run) <= MAX_NAME_LENGTH:
            raise GroupRefused(f"run and group names must have 1 to {MAX_NAME_LENGTH} characters.")
        if not 1 <= terms.world_size <= self.limits.world_size:
            raise GroupLimit(
                f"world size {terms.world_size} is not within 1 to {self.limits.world_size}, this server's limit."
            )
        if terms.channel not in CHANNELS:
            raise GroupRefused(f"channel {terms.channel!r} is unknown to the server; use one of {', '.join(CHANNELS)}.")
        if terms.capacity_bytes > MAX_CAPACITY_BYTES:
            raise GroupLimit(f"a capacity of {terms.capacity_bytes} bytes is beyond the limit of {MAX_CAPACITY_BYTES}.")
        if not 0 < terms.join_deadline_s <= self.limits.join_deadline_s:
            raise GroupLimit(f"the join deadline must be within 0 to {self.limits.join_deadline_s} s.")
        if not MIN_HEARTBEAT_S <= terms.heartbeat_timeout_s <= MAX_HEARTBEAT_S:
            raise GroupLimit(f"the heartbeat timeout must be within {MIN_HEARTBEAT_S} to {MAX_HEARTBEAT_S} s.")
