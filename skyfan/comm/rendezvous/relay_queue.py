"""Queues of relayed bytes, bounded for each receiving rank and for the server."""

import asyncio
from collections import deque

from skyfan.v1.rendezvous_pb2 import RelayFrame


class ByteBudget:
    """A number of bytes that may be in use at one time; requests beyond it wait in turn."""

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
        """Return bytes that were taken."""
        self.used_bytes -= size_bytes
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            if not turn.done():
                self.used_bytes += size_bytes
                turn.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes == 0 or self.used_bytes + size_bytes <= self._limit_bytes


class RelayQueue:
    """Frames that wait for one rank, as it is sent them, at most `capacity_bytes` of them."""

    def __init__(self, capacity_bytes: int) -> None:
        self._budget = ByteBudget(capacity_bytes)
        self._frames: deque[RelayFrame] = deque()
        self._ready = asyncio.Event()
        self._server: ByteBudget | None = None
        self._closed = False

    async def put(self, frame: RelayFrame, server: ByteBudget) -> None:
        """Wait for room, here and on the server, then queue; frames for a rank that has left are dropped."""
        size_bytes = len(frame.data)
        if self._closed:
            return
        await self._budget.take(size_bytes)
        try:
            await server.take(size_bytes)
        except asyncio.CancelledError:  # the sender is gone
            self._budget.give(size_bytes)
            raise
        self._server = server
        if self._closed:
            server.give(size_bytes)
            self._budget.give(size_bytes)
            return
        self._frames.append(frame)
        self._ready.set()

    async def get(self) -> RelayFrame:
        """Wait for the next frame; its bytes count until `sent` is called with it."""
        while not self._frames:
            self._ready.clear()
            await self._ready.wait()
        return self._frames.popleft()

    def sent(self, frame: RelayFrame) -> None:
        """Free the bytes of a frame that has been delivered."""
        self._budget.give(len(frame.data))
        if self._server is not None:
            self._server.give(len(frame.data))

    def close(self) -> None:
        """Drop what is left; the receiver has gone."""
        self._closed = True
        while self._frames:
            self.sent(self._frames.popleft())
