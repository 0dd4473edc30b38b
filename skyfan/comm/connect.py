"""How a rank gets its communicator: choose a channel, join the group, connect to the peers."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping

from skyfan.comm.attendance import Attendance
from skyfan.comm.communicator import DEFAULT_TIMEOUT_S, Communicator
from skyfan.comm.errors import CommError, RendezvousLost
from skyfan.comm.model import Choice, choose
from skyfan.comm.punch import Address, LocalPort, Puncher, observe
from skyfan.comm.relay import RelayPump
from skyfan.comm.store_channel import StoreChannel
from skyfan.comm.stream import StreamChannel
from skyfan.comm.watch import Watch
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
) -> Communicator:
    """Join a group as `rank` and return when it is full and connected.

    `run` and `group` name the group; a name is used once (a retry of a run takes a new one). `rendezvous` is
    `host:port` (default: `SKYFAN_RENDEZVOUS`), `token` the group's secret of at least 16 characters (default:
    `SKYFAN_GROUP_TOKEN`), `store` any URI under which the store channel keeps its objects. `channel` is
    "relay", "direct", "store" or "auto", which chooses by `model.choose` for messages of `typical_bytes`,
    "fast" or "cheap". All ranks must pass the same.

    Raises `GroupRefused`, `GroupLimit`, `GroupIncomplete`, `RendezvousLost`, `CommTimeout`, `PeerLost`, `BadInput`.
    """
    settings = read(NetworkSettings)
    rendezvous = rendezvous or settings.rendezvous
    token = token or settings.group_token.get_secret_value()
    _require_valid(rank, world_size, timeout_s)
    choice = choose(
        channel,
        world_size,
        has_rendezvous=rendezvous is not None,
        has_store=store is not None,
        typical_bytes=typical_bytes,
        prefer=prefer,
        direct_max_world_size=DIRECT_MAX_WORLD_SIZE,
    )
    if choice.channel == "store":
        assert store is not None
        started = time.monotonic()
        over_store = StoreChannel(
            store, run, group, rank, world_size, join_timeout_s=join_timeout_s, heartbeat_timeout_s=heartbeat_timeout_s
        )
        communicator = Communicator(over_store, group, timeout_s=timeout_s, why=choice.why)
        communicator.formation_s = time.monotonic() - started
        return communicator
    assert rendezvous is not None
    terms = pb.GroupTerms(
        run=run,
        name=group,
        world_size=world_size,
        channel=choice.channel,
        token=token,
        join_deadline_s=join_timeout_s,
        heartbeat_timeout_s=heartbeat_timeout_s,
    )
    deadline = time.monotonic() + join_timeout_s
    return _join(rendezvous, terms, rank, deadline, timeout_s, punch_timeout_s, choice)


def _require_valid(rank: int, world_size: int, timeout_s: float) -> None:
    if world_size < 1 or not 0 <= rank < world_size:
        raise BadInput(f"rank {rank} of world size {world_size} does not exist; ranks count from 0.")
    if timeout_s <= 0:
        raise BadInput(f"timeout_s must be greater than zero, not {timeout_s}.")


def _join(
    rendezvous: str,
    terms: pb.GroupTerms,
    rank: int,
    deadline: float,
    timeout_s: float,
    punch_timeout_s: float,
    choice: Choice,
) -> Communicator:
    watch = Watch()
    try:
        attendance = Attendance(rendezvous, terms, rank, watch, deadline)
    except BaseException:
        watch.close()
        raise
    sockets: dict[int, socket.socket] = {}
    try:
        # The server tells when its own deadline has passed, which is more precise than ours.
        server_deadline = deadline + 2.0
        if choice.channel == "direct":
            sockets, formation_s = asyncio.run(
                _connect_direct(attendance, terms, rank, server_deadline, punch_timeout_s)
            )
        else:
            formation_s = attendance.expect("full", server_deadline).formation_s
        relayed = sorted(set(range(terms.world_size)) - {rank} - set(sockets))
        pump = RelayPump(attendance, relayed) if relayed else None
    except BaseException:
        attendance.abandon()
        watch.close()
        for sock in sockets.values():
            sock.close()
        raise
    stream = StreamChannel(
        choice.channel,
        rank,
        terms.world_size,
        {**sockets, **(pump.sockets if pump else {})},
        watch,
        needs_server=pump is not None,
        goodbye=_goodbye(attendance, pump),
    )
    communicator = Communicator(stream, terms.name, timeout_s=timeout_s, why=choice.why)
    communicator.paths = {**dict.fromkeys(sockets, "direct"), **dict.fromkeys(relayed, "relay")}
    communicator.formation_s = formation_s
    return communicator


def _goodbye(attendance: Attendance, pump: RelayPump | None) -> Callable[[BaseException | None, float], None]:
    """What ends the membership: flush the relay, leave, free everything."""

    def leave(failed: BaseException | None, deadline: float) -> None:
        try:
            if pump is not None and failed is None:
                pump.flush(deadline)
            attendance.leave(failed, deadline)
        finally:
            if pump is not None:
                pump.stop(deadline)

    return leave


async def _connect_direct(
    attendance: Attendance, terms: pb.GroupTerms, rank: int, deadline: float, punch_timeout_s: float
) -> tuple[dict[int, socket.socket], float]:
    """Sockets to the peers that both ends could reach, and the time that the group took to form."""
    ports: list[LocalPort] = []
    puncher = None
    try:
        own = await _observe_all(attendance, ports)
        candidates = [pb.Endpoint(address=address, port=port) for address, port in own]
        attendance.say(endpoints=pb.Endpoints(candidates=candidates))
        full: pb.Full = await asyncio.to_thread(attendance.expect, "full", deadline)
        puncher = Puncher(rank, attendance.joined.session, terms.token, ports)
        await puncher.connect(_candidates(full, rank), time.monotonic() + punch_timeout_s)
        attendance.say(links=pb.LinkReport(peers=sorted(puncher.links)))
        verdict: pb.Paths = await asyncio.to_thread(attendance.expect, "paths", deadline + punch_timeout_s)
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
    """Room for several pieces on their way; keep-alive finds half-open connections even without the server."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def _observe_all(attendance: Attendance, ports: list[LocalPort]) -> list[Address]:
    """Own addresses, seen from outside and from inside, over every family in which the server answers.

    `ports` is filled with the ports in use. None at all is no error: such a rank is relayed to.
    """
    host = attendance.address.rpartition(":")[0].strip("[]")
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, attendance.joined.observer_port, type=socket.SOCK_STREAM)
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
            port.listener.close()  # no way out over this family: the other, or the relay
    return found


def _candidates(full: pb.Full, rank: int) -> Mapping[int, list[Address]]:
    return {
        peer: [(each.address, each.port) for each in endpoints.candidates]
        for peer, endpoints in enumerate(full.endpoints)
        if peer != rank
    }
