"""The channel over stream sockets: for each peer TCP (direct) or the local end of a relayed connection.

The thread that calls an operation does its input and output itself, on non-blocking sockets with epoll. An
asyncio loop in a second thread would add two thread switches and a dozen Python calls to every message, which
is more than a whole exchange of 8 bytes takes (docs/explanation/communication.md, "Why not asyncio in the data path").
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from skyfan.comm.channel import Channel, Parts, Poisoning, Request, Tag, require_time
from skyfan.comm.link import Link
from skyfan.comm.peer_monitor import PeerMonitor, left_error, lost_error
from skyfan.comm.waiting import pause_s, require_running

# How long the server may take to tell whether a rank whose connection ended was lost or has left, on a busy machine.
_LOSS_GRACE_S = 5.0
_ALWAYS = select.EPOLLRDHUP
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class StreamChannel(Channel):
    """`sockets` maps every other rank to a connected stream socket, which this channel then owns.

    `monitor` knows which ranks were lost or have left. `needs_server`: some pairs are relayed, so that losing the
    server ends the group. `leave_group` is called with `(failed, deadline)` on closing, when everything was delivered.
    """

    def __init__(
        self,
        name: str,
        rank: int,
        world_size: int,
        sockets: Mapping[int, socket.socket],
        monitor: PeerMonitor,
        *,
        needs_server: bool = False,
        leave_group: Callable[[BaseException | None, float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.name, self.rank, self.world_size = name, rank, world_size
        self._monitor = monitor
        self._needs_server = needs_server
        self._leave_group = leave_group
        self._cancelled = cancelled
        self._hung: dict[int, float] = {}
        self._sending: set[int] = set()
        self._links = {peer: Link(peer, sock) for peer, sock in sockets.items()}
        self._by_fd = {link.sock.fileno(): link for link in self._links.values()}
        self._interest = dict.fromkeys(self._by_fd, _ALWAYS)
        self._epoll = select.epoll()
        for fd in self._by_fd:
            self._epoll.register(fd, _ALWAYS)
        self._epoll.register(monitor.waker, select.EPOLLIN)

    def isend(self, dst: int, tag: Tag, parts: Parts, check: int = 0) -> Request:
        """Start sending `parts` to rank `dst`; see `Channel.isend`."""
        self.check()
        request = Request(dst, tag, check)
        link = self._links[dst]
        with Poisoning(self):
            link.send(request, parts)
            if link.sending:
                self._sending.add(dst)
        return request

    def irecv(self, src: int, tag: Tag, into: memoryview | None = None, check: int = 0) -> Request:
        """Post a receive from rank `src`; see `Channel.irecv`."""
        self.check()
        request = Request(src, tag, check, into)
        with Poisoning(self):
            self._links[src].receive(request)
        return request

    def wait(self, requests: Iterable[Request], deadline: float) -> None:
        """Block until `requests` are done; see `Channel.wait`."""
        pending = [request for request in requests if not request.done]
        if not pending:
            return
        with Poisoning(self):
            for request in pending:
                link = self._links[request.peer]
                link.pull()
                link.push()
            pending = [request for request in pending if not request.done]
            while pending:
                self._wait_once(pending, deadline)
                pending = [request for request in pending if not request.done]

    def check(self) -> None:
        """Raise the failure that ended this channel, if there is one."""
        if self.failure is None and self._monitor.changed:
            self.failure = self._monitor.failure(self._needs_server)
        super().check()

    def close(self, failed: BaseException | None, timeout_s: float) -> None:
        """End this rank's part; see `Channel.close`."""
        deadline = time.monotonic() + timeout_s
        if self._needs_server:
            for link in self._links.values():
                link.finish()
        try:
            if self._leave_group is not None:
                self._leave_group(failed, deadline)
        finally:
            self._epoll.close()
            for link in self._links.values():
                link.sock.close()
            self._monitor.waker.close()

    def _wait_once(self, pending: list[Request], deadline: float) -> None:
        self._raise_known_failure(pending)
        self._update_interest({request.peer for request in pending} | self._sending)
        now = time.monotonic()
        require_time(pending, now, deadline)
        require_running(self._cancelled, str(pending[0].tag))
        timeout_s = min(deadline - now, 0.1) if self._hung else pause_s(deadline - now, self._cancelled)
        for fd, events in self._epoll.poll(timeout_s):
            link = self._by_fd.get(fd)
            if link is None:
                self._monitor.waker.drain()
                continue
            if events & select.EPOLLIN and not link.receiving:
                self._set_interest(link, _ALWAYS)  # leave it in the kernel until a receive is posted
            link.pull()
            if events & select.EPOLLOUT:
                link.push()
                if not link.sending:
                    self._sending.discard(link.peer)
                    self._set_interest(link, self._interest[fd] & ~select.EPOLLOUT)
            if events & _GONE or link.ended:
                self._hang_up(link)

    def _update_interest(self, peers: set[int]) -> None:
        """Readable matters while a receive is posted, writable while anything waits to be sent to anyone."""
        for peer in peers:
            link = self._links[peer]
            wanted = _ALWAYS | (select.EPOLLIN if link.receiving else 0) | (select.EPOLLOUT if link.sending else 0)
            self._set_interest(link, wanted)

    def _set_interest(self, link: Link, wanted: int) -> None:
        fd = link.sock.fileno()
        if link.peer not in self._hung and self._interest[fd] != wanted:
            self._epoll.modify(fd, wanted)
            self._interest[fd] = wanted

    def _hang_up(self, link: Link) -> None:
        """Note that nothing more comes from this peer; `_raise_if_lost` decides whether it was lost."""
        if link.peer not in self._hung:
            self._hung[link.peer] = time.monotonic()
            self._epoll.unregister(link.sock.fileno())

    def _raise_known_failure(self, pending: list[Request]) -> None:
        if self._monitor.changed:
            failure = self._monitor.failure(self._needs_server)
            if failure is not None:
                raise failure
        for link in [self._links[peer] for peer in {request.peer for request in pending}]:
            if link.ended:
                self._hang_up(link)
        if self._hung:
            self._raise_if_lost({request.peer for request in pending})

    def _raise_if_lost(self, waited_for: set[int]) -> None:
        """A connection that ended means that its rank left or was lost; the server knows which, and which was first."""
        now = time.monotonic()
        for peer, since in self._hung.items():
            if self._monitor.has_left(peer):
                if peer in waited_for:
                    raise left_error(peer)
            # Without the server nobody tells whether it left in order: that is a loss only for those who wait for it.
            elif peer in waited_for if self._monitor.server_is_gone else now - since > _LOSS_GRACE_S:
                raise lost_error(peer, self._links[peer].ended or "its connection ended")
