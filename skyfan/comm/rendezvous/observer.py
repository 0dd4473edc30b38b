"""The raw TCP listener: tells whoever connects the address and port that it was seen with, and hangs up.

One line of text, `SKYFAN1 <address> <port>`. It takes no input. A gRPC connection cannot do this: its source
port is not the one that will be punched from.
"""

import asyncio
import ipaddress

from skyfan.comm.rendezvous.groups_registry import Counters

GREETING = "SKYFAN1"
_MAX_OPEN = 256
_SEND_S = 5.0


class Observer:
    """Listens on `host`, on both families if that is a wildcard; port 0 takes a free one."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._open = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Begin to listen."""
        both = host in ("::", "0.0.0.0", "") and port != 0  # noqa: S104 (compared, not bound to)
        self._server = await asyncio.start_server(self._answer, None if both else host, port, backlog=1024)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MAX_OPEN:
                address, port = writer.get_extra_info("peername")[:2]
                writer.write(f"{GREETING} {plain_address(address)} {port}\n".encode())
                await asyncio.wait_for(writer.drain(), _SEND_S)
                self._counters.addresses_observed += 1
        except (OSError, TimeoutError):
            return  # the asker is gone; nobody is left to tell
        finally:
            self._open -= 1
            writer.close()


def plain_address(address: str) -> str:
    """IPv4 addresses that came in over an IPv6 socket are written as IPv4."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
