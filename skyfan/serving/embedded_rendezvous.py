"""A rendezvous server in a thread of this process, for checks and tests on one machine."""

import asyncio
import threading
from typing import Self

from skyfan.errors import SkyfanError
from skyfan.serving.rendezvous_server import RendezvousServer
from skyfan.settings import RendezvousLimits

_START_S = 20.0
_HOST = "127.0.0.1"


class EmbeddedServer:
    """`with EmbeddedServer() as server: ... server.address`; stopped with the block."""

    def __init__(self, limits: RendezvousLimits | None = None, port: int = 0) -> None:
        self._limits, self._port = limits, port
        self._started = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="rendezvous", daemon=True)
        self.address = ""
        self.server: RendezvousServer

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_S):
            raise SkyfanError(f"the rendezvous server did not start within {_START_S:g} s.")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.server = RendezvousServer(self._limits)
            await self.server.start(_HOST, self._port, 0)
        except Exception as failure:  # noqa: BLE001 (raised where it was started)
            self._failure = failure
            self._started.set()
            return
        self.address = f"{_HOST}:{self.server.port}"
        self._started.set()
        await self._stop.wait()
        await self.server.stop(drain_s=0.2)
