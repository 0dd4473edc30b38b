"""The executors that answer now: found, checked, lent to one rank at a time, checked again after a failure."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from grpc import aio

from skyfan.errors import SkyfanError
from skyfan.rpc.credentials import open_channel
from skyfan.rpc.healthcheck import is_serving
from skyfan.v1.executor_pb2_grpc import ExecutorStub

if TYPE_CHECKING:
    from skyfan.v1.executor_pb2_grpc import ExecutorAsyncStub

REFRESH_S = 1.0
# Longer than a rolling restart of one container, shorter than a user's patience.
NOBODY_DEADLINE_S = 120.0

Discover = Callable[[], Awaitable[set[str]]]


@dataclass
class Lease:
    """One executor, ours until the `async with` block ends."""

    address: str
    channel: aio.Channel

    @property
    def stub(self) -> "ExecutorAsyncStub":
        """The executor's calls."""
        return ExecutorStub(self.channel)


@dataclass
class ExecutorPool:
    """Keeps a channel to every address that `discover` names and lends those that are healthy and idle.

    `server_name` is what their certificates are checked against when the addresses are numbers.
    """

    discover: Discover
    server_name: str | None = None
    plain: bool = False
    _channels: dict[str, aio.Channel] = field(default_factory=dict)
    _idle: set[str] = field(default_factory=set)
    _leased: set[str] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _refresher: asyncio.Task[None] | None = None
    _trouble: str = "are they running, and is their address right?"

    @property
    def size(self) -> int:
        """Executors that answer, idle or at work."""
        return len(self._idle) + len(self._leased)

    async def start(self) -> None:
        """Looks for executors once, and from then on again and again."""
        await self._refresh()
        self._refresher = asyncio.create_task(self._refresh_forever())

    async def stop(self) -> None:
        """Closes all channels."""
        if self._refresher:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))
        self._channels.clear()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """An idle executor. After a failure inside, it is lent again only when it answers a health check."""
        address = await self._take()
        try:
            yield Lease(address, self._channels[address])
        except BaseException:
            self._leased.discard(address)
            raise
        self._leased.discard(address)
        async with self._changed:
            self._idle.add(address)
            self._changed.notify()

    async def _take(self) -> str:
        """Waits as long as others are at work, but not longer than the deadline when nobody answers."""
        alone_since = time.monotonic()
        async with self._changed:
            while not self._idle:
                if self._leased:
                    alone_since = time.monotonic()
                if time.monotonic() - alone_since > NOBODY_DEADLINE_S:
                    # Not transient: waiting as long once more for every retry would take a quarter of an hour.
                    raise SkyfanError(f"no executor answers since {NOBODY_DEADLINE_S:.0f} s; {self._trouble}")
                try:
                    async with asyncio.timeout(REFRESH_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            address = self._idle.pop()
            self._leased.add(address)
            return address

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._refresh()
            # One's trouble, whatever it is: the others work on, and the next look may succeed; nobody hears this task.
            except Exception as error:  # noqa: BLE001
                self._trouble = str(error) or type(error).__name__
                structlog.get_logger("driver").warning("looking for executors failed", error=str(error))

    async def _refresh(self) -> None:
        """Takes in new addresses, drops those that are gone, and brings back those that recovered."""
        found = await self.discover()
        for address in found - self._channels.keys():
            self._channels[address] = open_channel(address, server_name=self.server_name, plain=self.plain)
        for address in self._channels.keys() - found:
            if address not in self._leased:  # asked anew each time: closing waits, and leases go on meanwhile
                self._idle.discard(address)
                await self._channels.pop(address).close()
        waiting = [address for address in found if address not in self._idle and address not in self._leased]
        healthy = await asyncio.gather(*(is_serving(self._channels[address]) for address in waiting))
        recovered = {address for address, serving in zip(waiting, healthy, strict=True) if serving}
        if recovered:
            structlog.get_logger("driver").debug("executors ready", addresses=sorted(recovered))
            async with self._changed:
                self._idle |= recovered - self._leased
                self._changed.notify_all()
