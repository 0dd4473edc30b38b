"""Frames over one non-blocking stream socket between two ranks; receives are matched by tag.

Bytes are read only while a receive is posted: without one, they wait in the kernel and TCP slows the sender down. While
a receive is posted, messages with other tags that arrive before its own are kept, up to `MAX_UNEXPECTED_BYTES`. One
system call reads the header into its buffer and what follows into the first posted receive's, so that a message that
arrives in the expected order is never copied in Python.
"""

import socket
from collections import deque

import numpy as np

from skyfan.comm.channel import Parts, Request, Tag
from skyfan.comm.errors import CommError
from skyfan.comm.frames import HEADER, pack_header, require_fit, require_same_operation, unpack_header

MAX_UNEXPECTED_BYTES = 256 * 2**20
_MAX_PARTS = 64  # well below IOV_MAX
_SIZE = HEADER.size


class _Send:
    __slots__ = ("parts", "request")

    def __init__(self, request: Request, parts: deque[memoryview]) -> None:
        self.request = request
        self.parts = parts


class Link:
    """One peer's socket with its queues. `push` and `pull` do what can be done without blocking."""

    def __init__(self, peer: int, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.peer = peer
        self.sock = sock
        self.ended: str | None = None
        self.posted: deque[Request] = deque()
        self._sends: deque[_Send] = deque()
        self._unexpected: deque[tuple[Tag, int, memoryview]] = deque()
        self._unexpected_bytes = 0
        self._header = bytearray(_SIZE)
        self._header_view = memoryview(self._header)
        self._filled = 0
        self._staged = memoryview(b"")  # bytes that were read past a header and belong to what follows
        self._arriving: Request | None = None
        self._aside = False
        self._rest = memoryview(b"")

    @property
    def sending(self) -> bool:
        """Whether something still waits to be sent."""
        return bool(self._sends)

    @property
    def receiving(self) -> bool:
        """Whether a receive is posted."""
        return bool(self.posted) or self._arriving is not None

    def send(self, request: Request, parts: Parts) -> None:
        """Queue a message and send what the kernel takes at once."""
        length = sum(part.nbytes for part in parts)
        header = memoryview(pack_header(request.tag, request.check, length))
        self._sends.append(_Send(request, deque([header, *(part for part in parts if part.nbytes)])))
        if len(self._sends) == 1:
            self.push()

    def push(self) -> None:
        """Send until the kernel takes no more."""
        while self._sends:
            head = self._sends[0]
            parts = head.parts
            try:
                sent = self.sock.sendmsg([parts[index] for index in range(min(len(parts), _MAX_PARTS))])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.ended = self.ended or f"its connection broke ({error.strerror})"
                return
            while sent:
                size = parts[0].nbytes
                if sent < size:
                    parts[0] = parts[0][sent:]
                    break
                sent -= size
                parts.popleft()
            if not parts:
                self._sends.popleft()
                head.request.done = True

    def receive(self, request: Request) -> None:
        """Post a receive; a message that was kept completes it at once."""
        for index, (tag, check, data) in enumerate(self._unexpected):
            if tag == request.tag:
                del self._unexpected[index]
                self._unexpected_bytes -= data.nbytes
                require_fit(request, check, data.nbytes)
                if request.data is None:
                    request.data = data
                elif data.nbytes:
                    request.data[:] = data
                request.done = True
                return
            require_same_operation(request, tag)
        self.posted.append(request)

    def finish(self) -> None:
        """Close the sending direction, which the other end sees as the end of the stream."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.ended = self.ended or f"its connection broke ({error.strerror})"

    def pull(self) -> None:
        """Read until the kernel has no more or no receive is posted."""
        while self.posted or self._arriving is not None:
            if self._arriving is not None:
                progress = self._read_payload()
            elif self._filled < _SIZE:
                progress = self._read_header()
            else:
                self._begin_message()
                progress = True
            if not progress:
                return

    def _receive_into(self, buffers: list[memoryview]) -> int:
        """Bytes read; 0 when there are none now or the stream has ended."""
        if self.ended is not None:
            return 0
        try:
            count = self.sock.recv_into(buffers[0]) if len(buffers) == 1 else self.sock.recvmsg_into(buffers)[0]
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.ended = f"its connection broke ({error.strerror})"
            return 0
        if count == 0:
            self.ended = "its connection ended"
        return count

    def _read_header(self) -> bool:
        if self._staged.nbytes:
            taken = min(self._staged.nbytes, _SIZE - self._filled)
            self._header_view[self._filled : self._filled + taken] = self._staged[:taken]
            self._staged = self._staged[taken:]
            self._filled += taken
            return True
        buffers = [self._header_view[self._filled :]]
        guess = self.posted[0].data
        if guess is not None and guess.nbytes:
            buffers.append(guess)
        count = self._receive_into(buffers)
        past = max(0, self._filled + count - _SIZE)
        self._filled = min(_SIZE, self._filled + count)
        if past:
            assert guess is not None
            self._accept_guess(guess, past)
        return count > 0

    def _accept_guess(self, guess: memoryview, count: int) -> None:
        """`count` payload bytes were read into the first posted buffer; move them if they belong elsewhere."""
        tag, check, length = unpack_header(self._header, self.peer)
        request = self.posted[0]
        if tag == request.tag and check == request.check and length == guess.nbytes:
            self._filled = 0
            self.posted.popleft()
            self._advance(request, guess[count:])
        else:
            self._staged = memoryview(bytes(guess[:count]))

    def _begin_message(self) -> None:
        tag, check, length = unpack_header(self._header, self.peer)
        request = self._find_posted(tag)
        if request is None:
            require_same_operation(self.posted[0], tag)
            self._unexpected_bytes += length
            if self._unexpected_bytes > MAX_UNEXPECTED_BYTES:
                raise CommError(
                    f"rank {self.peer} sent more than {MAX_UNEXPECTED_BYTES} bytes for which this rank has no "
                    "receive posted; receive messages in about the order in which they are sent."
                )
            request = Request(self.peer, tag, check)
            self._aside = True
        else:
            require_fit(request, check, length)
        if request.data is None:
            request.data = np.empty(length, np.uint8).data
        self._filled = 0
        self._advance(request, request.data)

    def _find_posted(self, tag: Tag) -> Request | None:
        for index, request in enumerate(self.posted):
            if request.tag == tag:
                del self.posted[index]
                return request
        return None

    def _read_payload(self) -> bool:
        assert self._arriving is not None
        if self._staged.nbytes:
            count = min(self._staged.nbytes, self._rest.nbytes)
            self._rest[:count] = self._staged[:count]
            self._staged = self._staged[count:]
        else:
            count = self._receive_into([self._rest])
        self._advance(self._arriving, self._rest[count:])
        return count > 0

    def _advance(self, request: Request, rest: memoryview) -> None:
        """The message is complete when nothing is left of it."""
        self._rest = rest
        self._arriving = request if rest.nbytes else None
        if rest.nbytes:
            return
        request.done = True
        if self._aside:
            self._aside = False
            self._set_aside(request)

    def _set_aside(self, message: Request) -> None:
        """Keep a message until a receive for it is posted, which may have happened while it arrived."""
        assert message.data is not None
        self._unexpected.append((message.tag, message.check, message.data))
        wanted = self._find_posted(message.tag)
        if wanted is not None:
            self.receive(wanted)
