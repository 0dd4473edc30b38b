"""Direct connections between ranks that both sit behind NAT: TCP hole punching (RFC 5128, section 3.4).

Every rank binds one local port for IPv4 and one for IPv6, and uses it to ask the observer for its public address, to
listen, and to connect to its peers while they connect to it. Each outgoing attempt opens this rank's NAT.

A NAT that answers unexpected attempts with a reset, as Linux does, closes the mapping that this attempt had opened in
the other NAT, unless both attempts cross in flight. So once it is refused, the lower rank sends attempts with a small
hop limit: they open its own NAT and expire before the peer's, and an attempt of the higher rank, which keeps trying at
random short intervals, reaches the listener. The number of NATs on a path is unknown: attempts with 2, 3, 4 and the
usual number of hops alternate. A connection is used only after both ends have proved with HMAC-SHA-256 that they have
the group's token.
"""

import asyncio
import errno
import hmac
import random
import secrets
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import closing

from skyfan.comm.errors import CommError
from skyfan.errors import SkyfanError

Address = tuple[str, int]

GREETING = b"SKYFAN1 "
_HELLO = struct.Struct("<4sII32s")  # magic, from rank, to rank, nonce
_MAGIC = b"SKY1"
_PROOF_BYTES = 32
_USE = b"U"
_ATTEMPT_S = 1.0
_RETRY_S = 0.05
_REFUSED_RETRY_S = 0.01  # mean, for up to four peers
_HOPS = (2, 3, 4, 0)  # 0: as many as usual
_OPEN_S = 0.15  # time for an attempt of the higher rank to arrive
_HANDSHAKE_S = 3.0
_MAX_STRANGERS = 64
_HOP_LIMIT = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


class LocalPort:
    """One local port of one family, shared by a listener and all outgoing connections."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.listener = self._socket(0)
        self.port = int(self.listener.getsockname()[1])
        self.listener.listen(128)

    def outgoing(self) -> socket.socket:
        """A socket that is bound to the port and not yet connected."""
        return self._socket(self.port)

    def _socket(self, port: int) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("::" if self.family == socket.AF_INET6 else "", port))
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock


async def observe(port: LocalPort, observer: Address) -> list[Address]:
    """The public address of a local port, as the observer sees it, then its private one.

    Raises:
        CommError: there is no observer at that address.
        OSError: it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    with closing(port.outgoing()) as sock:
        await loop.sock_connect(sock, observer)
        line = b""
        while not line.endswith(b"\n") and len(line) < 256:
            received = await loop.sock_recv(sock, 256)
            if not received:
                break
            line += received
        if not line.startswith(GREETING):
            raise CommError(f"{observer[0]}:{observer[1]} is not a rendezvous server's address observer.")
        address, seen_port = line[len(GREETING) :].decode().split()
        private = sock.getsockname()[:2]
    found = [(address, int(seen_port)), (str(private[0]), int(private[1]))]
    return list(dict.fromkeys(found))


class Puncher:
    """Connects one rank to its peers by its local `ports`; `links` are the authenticated sockets by peer.

    `token` is the group's secret, `session` the server's name of the group: proofs of others are worthless in this one.
    """

    def __init__(self, rank: int, session: str, token: str, ports: Sequence[LocalPort]) -> None:
        self._rank = rank
        self._secret = hmac.digest(token.encode(), f"skyfan-direct {session}".encode(), "sha256")
        self._ports = ports
        self._strangers = 0
        self.links: dict[int, socket.socket] = {}
        self._linked: dict[int, asyncio.Event] = {}
        self._open: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, candidates: Mapping[int, Sequence[Address]], deadline: float) -> None:
        """Try all peers at once until `deadline` (`time.monotonic()`); those not reached are missing in `links`."""
        self._linked = {peer: asyncio.Event() for peer in candidates}
        loop = asyncio.get_running_loop()
        for port in self._ports:
            loop.add_reader(port.listener, self._accept, port.listener)
        for peer, addresses in candidates.items():
            for address in addresses:
                for port in self._ports:
                    if (port.family == socket.AF_INET6) == (":" in address[0]):
                        self._start(self._attempts(peer, port, address, deadline))
        waits = [asyncio.create_task(event.wait()) for event in self._linked.values()]
        try:
            if waits:
                await asyncio.wait(waits, timeout=max(0.0, deadline - time.monotonic()))
        finally:
            for port in self._ports:
                loop.remove_reader(port.listener)
            unfinished = [*waits, *self._tasks]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            for sock in self._open - set(self.links.values()):
                sock.close()  # also of tasks that were cancelled before they began

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listener: socket.socket) -> None:
        """Accept a connection and begin its handshake."""
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the other end has closed it
        sock.setblocking(False)
        if self._strangers >= _MAX_STRANGERS:
            sock.close()
            return
        self._open.add(sock)
        self._start(self._admit(sock))

    async def _admit(self, sock: socket.socket) -> None:
        self._strangers += 1
        try:
            await self._handshake(sock, None)
        finally:
            self._strangers -= 1

    async def _attempts(self, peer: int, port: LocalPort, address: Address, deadline: float) -> None:
        """Connect repeatedly: the first attempts may reach the peer's NAT before it has opened."""
        loop = asyncio.get_running_loop()
        pause_s = _RETRY_S
        refused = 0
        while not self._linked[peer].is_set() and time.monotonic() < deadline:
            sock = port.outgoing()
            self._open.add(sock)
            try:
                if refused and self._rank < peer:
                    await self._open_own_nat(sock, address, _HOPS[(refused - 1) % len(_HOPS)])
                else:
                    await asyncio.wait_for(loop.sock_connect(sock, address), _ATTEMPT_S)
            except ConnectionRefusedError:
                self._drop(sock)
                refused += 1
                mean_s = _REFUSED_RETRY_S * max(1.0, len(self._linked) / 4)
                await asyncio.sleep(random.uniform(0.2, 1.8) * mean_s)  # noqa: S311 (jitter)
                continue
            except (OSError, TimeoutError):
                # Unreachable, or taken by the connection that the peer made to us: try again until linked.
                self._drop(sock)
                refused += bool(refused)  # once refused, every attempt takes the next number of hops
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.5)
                continue
            await self._handshake(sock, peer)

    async def _open_own_nat(self, sock: socket.socket, address: Address, hops: int) -> None:
        """An attempt whose first packet has a limit of `hops`; raises `OSError` if it does not connect."""
        level, option = _HOP_LIMIT[sock.family]
        usual = sock.getsockopt(level, option)
        sock.setsockopt(level, option, hops or usual)
        sock.connect_ex(address)
        sock.setsockopt(level, option, usual)  # later packets must arrive
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), _OPEN_S)
        except OSError as error:
            if error.errno == errno.EISCONN:
                return
            if error.errno == errno.EHOSTUNREACH:
                await asyncio.sleep(_OPEN_S)  # it expired on its way, as intended: this rank's NAT is open
            raise

    async def _handshake(self, sock: socket.socket, expected: int | None) -> None:
        """Keeps the socket as the link to its peer, or closes it."""
        kept = False
        try:
            peer = await asyncio.wait_for(self._authenticate(sock, expected), _HANDSHAKE_S)
            kept = await asyncio.wait_for(self._agree(sock, peer), _HANDSHAKE_S)
            if kept:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.links[peer] = sock
                self._linked[peer].set()
        except (OSError, TimeoutError, SkyfanError, asyncio.IncompleteReadError):
            kept = False  # a stranger or a broken attempt; others go on until the deadline
        finally:
            if not kept:
                self._drop(sock)
                for peer in [peer for peer, link in self.links.items() if link is sock]:
                    del self.links[peer]

    def _drop(self, sock: socket.socket) -> None:
        self._open.discard(sock)
        sock.close()

    async def _authenticate(self, sock: socket.socket, expected: int | None) -> int:
        """Exchange ranks and nonces, then proofs that both ends have the token; the peer's rank."""
        loop = asyncio.get_running_loop()
        nonce = secrets.token_bytes(32)
        if expected is not None:
            await loop.sock_sendall(sock, _HELLO.pack(_MAGIC, self._rank, expected, nonce))
        magic, peer, addressee, their_nonce = _HELLO.unpack(await _receive(sock, _HELLO.size))
        unknown = peer not in self._linked or addressee != self._rank or expected not in (None, peer)
        if magic != _MAGIC or unknown:
            raise CommError("a connection that is not from a peer.")
        if expected is None:
            await loop.sock_sendall(sock, _HELLO.pack(_MAGIC, self._rank, peer, nonce))
        await loop.sock_sendall(sock, self._proof(self._rank, peer, nonce, their_nonce))
        proof = await _receive(sock, _PROOF_BYTES)
        if not hmac.compare_digest(proof, self._proof(peer, self._rank, their_nonce, nonce)):
            raise CommError("a peer without the group's token.")
        return int(peer)

    async def _agree(self, sock: socket.socket, peer: int) -> bool:
        """Of several connections of a pair, the lower rank picks the first that is authenticated."""
        loop = asyncio.get_running_loop()
        if self._rank < peer:
            if peer in self.links:
                return False
            self.links[peer] = sock
            await loop.sock_sendall(sock, _USE)
            return True
        return await _receive(sock, 1) == _USE and peer not in self.links

    def _proof(self, sender: int, receiver: int, sender_nonce: bytes, receiver_nonce: bytes) -> bytes:
        message = struct.pack("<II", sender, receiver) + sender_nonce + receiver_nonce
        return hmac.digest(self._secret, message, "sha256")


async def _receive(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, and not one more: what follows belongs to the link."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise asyncio.IncompleteReadError(data, size)
        data += more
    return data
