"""Bytes on their way from one rank to another, with a bound for each rank and for the server."""

import asyncio
from collections import deque
from typing import NamedTuple


class Frame(NamedTuple):
    """`credit_bytes`: so many of the receiver's own bytes were consumed by the source."""

    source: int
    data: bytes
    credit_bytes: int
    end: bool


class Budget:
    """At most so many bytes at one time; who asks for more waits in turn."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int) -> None:
        """Wait until `size_bytes` fit (a single piece always fits into an empty budget)."""
        if not self._waiting and self._fits(size_bytes):
            self.used_bytes += size_bytes
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size_bytes)
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def give(self, size_bytes: int) -> None:
        """Hand bytes back."""
        self.used_bytes -= size_bytes
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            if not turn.done():
                self.used_bytes += size_bytes
                turn.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes == 0 or self.used_bytes + size_bytes <= self._limit_bytes


class Outbox:
    """Frames that wait for one rank to take them."""

    def __init__(self, capacity_bytes: int) -> None:
        self._budget = Budget(capacity_bytes)
        self._frames: deque[Frame] = deque()
        self._ready = asyncio.Event()
        self._server: Budget | None = None
        self._closed = False

    async def put(self, frame: Frame, server: Budget) -> None:
        """Wait for room, here and on the server, then queue; frames for a rank that is gone are dropped."""
        size_bytes = len(frame.data)
        if self._closed:
            return
        await self._budget.take(size_bytes)
        await server.take(size_bytes)
        self._server = server
        if self._closed:
            server.give(size_bytes)
            self._budget.give(size_bytes)
            return
        self._frames.append(frame)
        self._ready.set()

    async def get(self) -> Frame:
        """The next frame; its bytes count until `sent`."""
        while not self._frames:
            self._ready.clear()
            await self._ready.wait()
        return self._frames.popleft()

    def sent(self, frame: Frame) -> None:
        """The frame is with the receiver: its bytes are free again."""
        self._budget.give(len(frame.data))
        if self._server is not None:
            self._server.give(len(frame.data))

    def close(self) -> None:
        """Drop what is left; nobody will take it."""
        self._closed = True
        while self._frames:
            self.sent(self._frames.popleft())
