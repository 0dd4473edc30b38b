"""How a rank gets its communicator: choose a channel, join the group, connect to the peers."""

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from skyfan.comm.channel_choice import Choice, choose
from skyfan.comm.communicator import DEFAULT_TIMEOUT_S, Communicator
from skyfan.comm.errors import CommError, RendezvousLost
from skyfan.comm.group_membership import GroupMembership
from skyfan.comm.peer_monitor import PeerMonitor
from skyfan.comm.punch import Address, LocalPort, Puncher, observe
from skyfan.comm.relay import RelayPump
from skyfan.comm.store_channel import StoreChannel
from skyfan.comm.stream import StreamChannel
from skyfan.comm.waiting import run_until_cancelled
from skyfan.errors import BadInput
from skyfan.settings import NetworkSettings, read, variable
from skyfan.v1 import rendezvous_pb2 as pb

RENDEZVOUS_VARIABLE = variable(NetworkSettings, "rendezvous")
TOKEN_VARIABLE = variable(NetworkSettings, "group_token")
DIRECT_MAX_WORLD_SIZE = 64
SOCKET_BUFFER_BYTES = 4 * 2**20
_OBSERVE_S = 3.0


def connect(
    rank: int,
    world_size: int,
    *,
    run: str,
    group: str = "main",
    channel: str = "auto",
    rendezvous: str | None = None,
    token: str | None = None,
    store: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    join_timeout_s: float = 60.0,
    punch_timeout_s: float = 5.0,
    heartbeat_timeout_s: float = 10.0,
    typical_bytes: int = 1024,
    prefer: str = "fast",
    cancelled: threading.Event | None = None,
) -> Communicator:
    """Join a group as `rank` and return when it is full and connected; times are in seconds.

    All ranks must pass the same arguments but for `rank` and `cancelled`.

    Args:
        rank: this rank's number, from 0.
        world_size: the number of ranks in the group.
        run: with `group`, names the group. A name is used once: a retry of a run takes a new one.
        group: a name among the groups of the run.
        channel: "relay", "direct", "store" or "auto", which chooses by `skyfan.comm.channel_choice.choose`.
        rendezvous: HOST:PORT of the rendezvous server; default: `SKYFAN_RENDEZVOUS`.
        token: the group's secret, 16 to 1,024 characters; default: `SKYFAN_GROUP_TOKEN`.
        store: any URI below which the store channel keeps its objects.
        timeout_s: of every operation, unless the call has its own.
        join_timeout_s: until all ranks must have joined.
        punch_timeout_s: until a pair that has no direct connection is relayed.
        heartbeat_timeout_s: a rank that sends nothing for this long is lost.
        typical_bytes: size of a message, by which "auto" chooses.
        prefer: "fast" or "cheap", for "auto".
        cancelled: when another thread sets it, every wait of this rank raises `Interrupted` within a second.

    Raises:
        BadInput: an argument cannot be used; among others `GroupRefused` and `GroupLimit`, from the server.
        GroupIncomplete, CommTimeout: some ranks, which it names, did not join in time, or the server did not answer.
        PeerLost, RendezvousLost: a rank died, or the server was lost, while the group connected.
        Interrupted: `cancelled` was set.
    """
    settings = read(NetworkSettings)
    rendezvous = rendezvous or settings.rendezvous
    _require_valid(rank, world_size, timeout_s)
    choice = _choice(channel, world_size, rendezvous, store, typical_bytes, prefer)
    times = _Times(timeout_s, join_timeout_s, punch_timeout_s, heartbeat_timeout_s, cancelled)
    if choice.channel == "store":
        return _over_store(store or "", run, group, rank, world_size, choice, times)
    terms = pb.GroupTerms(run=run, name=group, world_size=world_size, channel=choice.channel)
    terms.token = token or settings.group_token.get_secret_value()
    terms.join_deadline_s, terms.heartbeat_timeout_s = join_timeout_s, heartbeat_timeout_s
    return _over_server(rendezvous or "", terms, rank, choice, times)


def _choice(
    channel: str, world_size: int, rendezvous: str | None, store: str | None, typical_bytes: int, prefer: str
) -> Choice:
    return choose(
        channel,
        world_size,
        has_rendezvous=rendezvous is not None,
        has_store=store is not None,
        typical_bytes=typical_bytes,
        prefer=prefer,
        direct_max_world_size=DIRECT_MAX_WORLD_SIZE,
    )


class _Times(NamedTuple):
    """What bounds the waits of a rank; seconds, as in `connect`."""

    operation_s: float
    join_s: float
    punch_s: float
    heartbeat_s: float
    cancelled: threading.Event | None


def _require_valid(rank: int, world_size: int, timeout_s: float) -> None:
    if world_size < 1 or not 0 <= rank < world_size:
        raise BadInput(f"rank {rank} of world size {world_size} does not exist; ranks count from 0.")
    if timeout_s <= 0:
        raise BadInput(f"timeout_s must be greater than zero, not {timeout_s}.")


def _over_store(
    uri: str, run: str, group: str, rank: int, world_size: int, choice: Choice, times: _Times
) -> Communicator:
    started = time.monotonic()
    channel = StoreChannel(
        uri,
        run,
        group,
        rank,
        world_size,
        join_timeout_s=times.join_s,
        heartbeat_timeout_s=times.heartbeat_s,
        cancelled=times.cancelled,
    )
    communicator = Communicator(channel, group, timeout_s=times.operation_s, why=choice.why)
    communicator.formation_s = time.monotonic() - started
    return communicator


def _over_server(rendezvous: str, terms: pb.GroupTerms, rank: int, choice: Choice, times: _Times) -> Communicator:
    deadline = time.monotonic() + times.join_s
    monitor, sockets = PeerMonitor(), dict[int, socket.socket]()
    with ExitStack() as on_error:
        on_error.callback(monitor.waker.close)
        membership = GroupMembership(rendezvous, terms, rank, monitor, deadline, times.cancelled)
        on_error.callback(membership.disconnect)
        # The server reports when its own deadline has passed, and which ranks are missing.
        server_deadline = deadline + 2.0
        if choice.channel == "direct":
            connecting = _connect_direct(membership, terms, rank, server_deadline, times.punch_s)
            sockets, formation_s = asyncio.run(run_until_cancelled(connecting, times.cancelled, "connecting to peers"))
            for sock in sockets.values():
                on_error.callback(sock.close)
        else:
            formation_s = membership.expect("full", server_deadline).formation_s
        relayed = sorted(set(range(terms.world_size)) - {rank} - set(sockets))
        pump = RelayPump(membership, relayed) if relayed else None
        on_error.pop_all()
    stream = StreamChannel(
        choice.channel,
        rank,
        terms.world_size,
        {**sockets, **(pump.sockets if pump else {})},
        monitor,
        needs_server=pump is not None,
        leave_group=functools.partial(_leave, membership, pump),
        cancelled=times.cancelled,
    )
    communicator = Communicator(stream, terms.name, timeout_s=times.operation_s, why=choice.why)
    communicator.paths = {**dict.fromkeys(sockets, "direct"), **dict.fromkeys(relayed, "relay")}
    communicator.formation_s = formation_s
    return communicator


def _leave(membership: GroupMembership, pump: RelayPump | None, failed: BaseException | None, deadline: float) -> None:
    """End the membership: flush the relay, leave, free everything."""
    try:
        if pump is not None and failed is None:
            pump.flush(deadline)
        membership.leave(failed, deadline)
    finally:
        if pump is not None:
            pump.stop(deadline)


async def _connect_direct(
    membership: GroupMembership, terms: pb.GroupTerms, rank: int, deadline: float, punch_timeout_s: float
) -> tuple[dict[int, socket.socket], float]:
    """Sockets to the peers that both ends could reach, and the time that the group took to form."""
    ports: list[LocalPort] = []
    puncher = None
    try:
        own = await _observe_all(membership, ports)
        candidates = [pb.Endpoint(address=address, port=port) for address, port in own]
        membership.send(endpoints=pb.Endpoints(candidates=candidates))
        full: pb.Full = await asyncio.to_thread(membership.expect, "full", deadline)
        puncher = Puncher(rank, membership.joined.session, terms.token, ports)
        await puncher.connect(_candidates(full, rank), time.monotonic() + punch_timeout_s)
        membership.send(links=pb.LinkReport(peers=sorted(puncher.links)))
        verdict: pb.Paths = await asyncio.to_thread(membership.expect, "paths", deadline + punch_timeout_s)
        links = puncher.links
        for peer in verdict.relayed:
            rejected = links.pop(peer, None)
            if rejected is not None:
                rejected.close()
        for link in links.values():
            _tune(link)
    except BaseException:
        if puncher is not None:
            for link in puncher.links.values():
                link.close()
        raise
    finally:
        for port in ports:
            port.listener.close()
    return links, full.formation_s


def _tune(link: socket.socket) -> None:
    """Buffers for several pieces in flight; keep-alive finds half-open connections even without the server."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def _observe_all(membership: GroupMembership, ports: list[LocalPort]) -> list[Address]:
    """This rank's public and private addresses, over IPv6 and IPv4 as far as the server answers.

    `ports` is filled with the ports in use. A rank with no address at all is reached through the relay.
    """
    host = membership.address.rpartition(":")[0].strip("[]")
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, membership.joined.observer_port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RendezvousLost(f"the rendezvous server's name {host!r} cannot be resolved: {error}.") from error
    found: list[Address] = []
    for family in (socket.AF_INET6, socket.AF_INET):
        observers = [info[4] for info in infos if info[0] == family]
        if not observers:
            continue
        port = LocalPort(family)
        try:
            found += await asyncio.wait_for(observe(port, (str(observers[0][0]), int(observers[0][1]))), _OBSERVE_S)
            ports.append(port)
        except (OSError, TimeoutError, CommError):
            port.listener.close()  # the server cannot be reached over this family
    return found


def _candidates(full: pb.Full, rank: int) -> Mapping[int, list[Address]]:
    return {
        peer: [(each.address, each.port) for each in endpoints.candidates]
        for peer, endpoints in enumerate(full.endpoints)
        if peer != rank
    }
