"""All groups of a rendezvous server: join, exchange of addresses, choice of paths, relay, expiry; without gRPC."""

from collections import OrderedDict

import structlog

from skyfan.comm.errors import CommError, GroupIncomplete, GroupLimit, GroupRefused, name_ranks
from skyfan.comm.rendezvous.groups import EndEvent, Group, Key, Member, Terms, require_address
from skyfan.comm.rendezvous.limits import (
    ENDED_S,
    MAX_CANDIDATES,
    MAX_CAPACITY_BYTES,
    MAX_ENDED_GROUPS,
    MAX_NAME_LENGTH,
    MAX_REASON_LENGTH,
)
from skyfan.comm.rendezvous.relay_queue import ByteBudget
from skyfan.settings import RendezvousLimits
from skyfan.v1 import rendezvous_pb2 as pb

CHANNELS = ("direct", "relay")
MIN_HEARTBEAT_S, MAX_HEARTBEAT_S = 0.5, 120.0


class GroupRegistry:
    """All groups of one server.

    `now` is the time in seconds by a clock that never goes back; it is an argument so that tests need not wait.
    """

    def __init__(self, limits: RendezvousLimits | None = None) -> None:
        self.limits = limits or RendezvousLimits()
        self.queued = ByteBudget(self.limits.queued_bytes)
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

    def join(self, terms: Terms, rank: int, now: float) -> Member:
        """Admit a rank to its group; the first rank creates the group.

        Raises:
            GroupRefused: the rank is none of this group, or its terms are not those of the group.
            GroupLimit: the terms, or one more group or rank, are beyond this server's limits.
        """
        self._require_valid(terms)
        group = self._groups.get(terms.key)
        if group is not None:
            group.require_same(terms, rank)
        self._require_room(terms, rank)
        member = (group or self._create(terms, now)).admit(rank, now)
        self._members[member.key] = member
        self._notify_if_full(member.group, now)
        return member

    def _create(self, terms: Terms, now: float) -> Group:
        if terms.key in self._ended:
            raise GroupRefused(f"{terms} is over; use another group name or run.")
        if len(self._groups) >= self.limits.groups:
            raise GroupLimit(f"the rendezvous server holds {self.limits.groups} groups already; try again later.")
        group = self._groups[terms.key] = Group(terms, now)
        self._log.info("group created", run=terms.run, group=terms.name, world_size=terms.world_size)
        return group

    def endpoints(self, member: Member, endpoints: pb.Endpoints, now: float) -> None:
        """Record the addresses at which a rank of a direct group may be reached.

        Raises:
            GroupRefused: they came before, are too many, or one is not an IP address with a port.
        """
        self._require_direct(member)
        if member.endpoints is not None or len(endpoints.candidates) > MAX_CANDIDATES:
            raise GroupRefused(f"rank {member.rank}: endpoints are sent once, at most {MAX_CANDIDATES} of them.")
        for candidate in endpoints.candidates:
            require_address(candidate)
        member.endpoints = endpoints
        self._notify_if_full(member.group, now)

    def links(self, member: Member, peers: frozenset[int]) -> None:
        """Record the peers to which a rank of a direct group has an authenticated connection.

        Raises:
            GroupRefused: they came before, or one is not a peer.
        """
        self._require_direct(member)
        if member.direct is not None or any(not member.has_peer(peer) for peer in peers):
            raise GroupRefused(f"rank {member.rank}: connections to peers are reported once, by their ranks.")
        member.direct = peers
        member.group.notify_paths_if_known()

    def heartbeat(self, member: Member, now: float) -> None:
        """Record that a rank is alive."""
        member.last_seen = now

    def leave(self, member: Member, error: str, culprit: int | None, now: float) -> None:
        """End a membership: normally, or early because of `error`, with the rank that caused it where known.

        Raises:
            GroupRefused: `culprit` is not a rank of the group.
        """
        error = error[:MAX_REASON_LENGTH]
        if culprit is not None and culprit >= member.group.terms.world_size:
            raise GroupRefused(f"rank {member.rank} names rank {culprit}, which is none of {member.group.terms}.")
        if error:
            if culprit is None:
                self._lose(member, member.rank, f"rank {member.rank} gave up: {error}", now)
            else:
                self._lose(member, culprit, error, now)
        else:
            self._remove(member, "it left", now)
            member.group.notify_all(pb.MemberEvent(left=pb.RankLeft(rank=member.rank)))
        member.notify(EndEvent(None))

    def disconnect(self, member: Member, now: float) -> None:
        """Record that the stream of a rank broke; nothing if its membership has ended."""
        if self._members.get(member.key) is member:
            self._lose(member, member.rank, f"rank {member.rank} was lost: its connection to the server broke.", now)

    def begin_relay(self, key: str) -> Member:
        """The member with this key, whose relay stream begins; its `relaying` is reset when the stream ends.

        Raises:
            GroupRefused: no member has this key, or its relay stream is open already.
        """
        member = self._members.get(key)
        if member is None:
            raise GroupRefused("this member key is unknown: the rank has left, was lost, or its group is over.")
        if member.relaying:
            raise GroupRefused(f"rank {member.rank} has a relay stream already; open one for each member.")
        member.relaying = True
        return member

    async def relay(self, member: Member, frame: pb.RelayFrame) -> None:
        """Pass a frame on to its peer; waits while the receiver or the server has as many bytes queued as it may.

        Raises:
            GroupRefused: that is not a peer of the member.
        """
        target = member.group.members.get(frame.peer)
        if not member.has_peer(frame.peer):
            raise GroupRefused(f"rank {member.rank} relays to {frame.peer}, which is not one of its peers.")
        frame.peer = member.rank
        if target is not None:
            await target.relay_queue.put(frame, self.queued)

    def sweep(self, now: float) -> None:
        """End what has reached its time limit: silent ranks, groups that are not full, groups that are too old."""
        for group in list(self._groups.values()):
            terms = group.terms
            for member in list(group.members.values()):
                silent_s = now - member.last_seen
                if silent_s > terms.heartbeat_timeout_s:
                    why = f"rank {member.rank} was lost: no sign of life for {silent_s:.1f} s."
                    member.notify(EndEvent(CommError(why)))
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

    def _notify_if_full(self, group: Group, now: float) -> None:
        if group.notify_if_full(now):
            self._log.info(
                "group full", run=group.terms.run, group=group.terms.name, formation_s=round(now - group.created_at, 3)
            )

    def _lose(self, member: Member, blamed: int, reason: str, now: float) -> None:
        group = member.group
        self._remove(member, reason, now)
        self._log.warning("rank lost", run=group.terms.run, group=group.terms.name, rank=member.rank, reason=reason)
        if group.full:
            group.notify_all(pb.MemberEvent(lost=pb.RankLost(rank=blamed, reason=reason)))

    def _remove(self, member: Member, reason: str, now: float) -> None:
        group = member.group
        self._members.pop(member.key, None)
        group.remove(member, reason)
        if group.over or (not group.members and not group.full):
            self._forget(group, now)

    def _end(self, group: Group, error: CommError | GroupIncomplete, now: float) -> None:
        group.notify_all(EndEvent(error))
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

    def _require_room(self, terms: Terms, rank: int) -> None:
        if rank >= terms.world_size:
            raise GroupRefused(
                f"rank {rank} is one too many for {terms}: world size {terms.world_size} has ranks 0 to "
                f"{terms.world_size - 1}."
            )
        if len(self._members) >= self.limits.members:
            raise GroupLimit(f"the rendezvous server holds {self.limits.members} ranks already; try again later.")

    def _require_direct(self, member: Member) -> None:
        if member.group.terms.channel != "direct":
            raise GroupRefused(f"rank {member.rank}: only ranks of direct groups send addresses and connections.")

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
