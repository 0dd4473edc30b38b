"""Connections to peers through the server, each of which is a socket to the rest of the communicator.

For every relayed peer there is a local socket pair. The communicator uses one end as if it were TCP to the peer; the
pump moves bytes between the other end and the relay stream. The receiver grants credit for what it has consumed, so
that at most `WINDOW_BYTES` of a pair are in flight and no pair can block another.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

import grpc

from skyfan.comm.group_membership import GroupMembership
from skyfan.comm.waiting import Waker
from skyfan.errors import SkyfanError
from skyfan.rpc.errors import call_metadata, error_of
from skyfan.v1 import rendezvous_pb2 as pb

WINDOW_BYTES = 4 * 2**20
CHUNK_BYTES = 512 * 2**10
_GRANT_BYTES = WINDOW_BYTES // 4
_POLL_S = 1.0


class _Pipe:
    """The pump's side of one peer."""

    def __init__(self, peer: int, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.peer = peer
        self.sock = sock
        self.credit_bytes = WINDOW_BYTES
        self.ended = False  # the communicator has closed its end
        self.peer_ended = False
        self.closed_for_writing = False
        self.consumed_bytes = 0
        self.incoming: deque[memoryview] = deque()


class RelayPump:
    """Runs the relay stream of one rank. `sockets` are the communicator's ends."""

    def __init__(self, membership: GroupMembership, peers: Iterable[int]) -> None:
        self.sockets: dict[int, socket.socket] = {}
        self._monitor = membership.monitor
        self._what = f"rendezvous server {membership.address}"
        self._pipes: dict[int, _Pipe] = {}
        for peer in peers:
            ours, theirs = socket.socketpair()
            self.sockets[peer] = theirs
            self._pipes[peer] = _Pipe(peer, ours)
        self._by_fd = {pipe.sock.fileno(): pipe for pipe in self._pipes.values()}
        self._waker = Waker()
        self._lock = threading.Lock()
        self._done = threading.Event()  # the pump has stopped
        self._drained = threading.Event()  # the server has everything, or the stream broke
        self._stopping = False
        metadata = (*call_metadata(), ("skyfan-member", membership.joined.member_key))
        self._call = membership.stub.Relay(self._frames(), metadata=metadata)
        self._thread = threading.Thread(target=self._receive, name="skyfan-comm-relay", daemon=True)
        self._thread.start()

    def flush(self, deadline: float) -> None:
        """Wait until the server has all that this rank sent, at most until `deadline` (`time.monotonic()`)."""
        self._drained.wait(max(0.0, deadline - time.monotonic()))

    def stop(self, deadline: float) -> None:
        """End the stream and free the sockets."""
        self._stopping = True
        self._waker.wake()
        self._call.cancel()
        self._done.wait(max(0.1, deadline - time.monotonic()))
        self._thread.join(max(0.1, deadline - time.monotonic()))
        for pipe in self._pipes.values():
            pipe.sock.close()
        self._waker.close()

    def _frames(self) -> Iterator[pb.RelayFrame]:
        """The requests of the stream; gRPC runs this in a thread of its own, and it is the pump."""
        poller = select.poll()
        poller.register(self._waker, select.POLLIN)
        try:
            while not self._stopping:
                yield from self._credits()
                if all(pipe.ended for pipe in self._pipes.values()):
                    return
                self._register(poller)
                for fd, _ in poller.poll(_POLL_S * 1000):
                    pipe = self._by_fd.get(fd)
                    if pipe is None:
                        self._waker.drain()
                        continue
                    self._write(pipe)
                    yield from self._read(pipe)
        finally:
            self._done.set()

    def _register(self, poller: "select.poll") -> None:
        for fd, pipe in self._by_fd.items():
            wanted = 0
            if not pipe.ended and pipe.credit_bytes > 0:
                wanted |= select.POLLIN
            if pipe.incoming or (pipe.peer_ended and not pipe.closed_for_writing):
                wanted |= select.POLLOUT
            if wanted:
                poller.register(fd, wanted)
            else:
                try:
                    poller.unregister(fd)
                except KeyError:
                    continue

    def _credits(self) -> Iterator[pb.RelayFrame]:
        for pipe in self._pipes.values():
            if pipe.consumed_bytes >= _GRANT_BYTES:
                granted, pipe.consumed_bytes = pipe.consumed_bytes, 0
                yield pb.RelayFrame(peer=pipe.peer, credit_bytes=granted)

    def _read(self, pipe: _Pipe) -> Iterator[pb.RelayFrame]:
        if pipe.ended or pipe.credit_bytes <= 0:
            return
        try:
            data = pipe.sock.recv(min(CHUNK_BYTES, pipe.credit_bytes))
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the communicator closed its end with bytes unread: an end like any other
        if data:
            with self._lock:
                pipe.credit_bytes -= len(data)
            yield pb.RelayFrame(peer=pipe.peer, data=data)
        else:
            pipe.ended = True
            yield pb.RelayFrame(peer=pipe.peer, end=True)

    def _write(self, pipe: _Pipe) -> None:
        while pipe.incoming:
            head = pipe.incoming[0]
            try:
                sent = pipe.sock.send(head)
            except BlockingIOError:
                return
            except OSError:
                pipe.incoming.clear()  # the communicator is closed
                return
            pipe.consumed_bytes += sent
            if sent < head.nbytes:
                pipe.incoming[0] = head[sent:]
            else:
                pipe.incoming.popleft()
        if pipe.peer_ended and not pipe.closed_for_writing:
            pipe.closed_for_writing = True
            try:
                pipe.sock.shutdown(socket.SHUT_WR)
            except OSError:
                return  # the communicator has closed its end already

    def _receive(self) -> None:
        try:
            for frame in self._call:
                self._take(frame)
            if not self._done.is_set():
                self._monitor.server_gone(f"{self._what} ended the relay.")
        except grpc.RpcError as error:
            if not self._stopping:
                failure: SkyfanError = error_of(error, self._what)  # type: ignore[arg-type]
                self._monitor.server_gone(str(failure))
        finally:
            self._drained.set()

    def _take(self, frame: pb.RelayFrame) -> None:
        pipe = self._pipes[frame.peer]
        if frame.credit_bytes:
            with self._lock:
                pipe.credit_bytes += frame.credit_bytes
        if frame.data:
            pipe.incoming.append(memoryview(frame.data))
        if frame.end:
            pipe.peer_ended = True
        self._waker.wake()
