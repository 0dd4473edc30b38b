"""The address observer: sends every client the address and port that it connects from, and closes the connection.

One line of text, `SKYFAN1 <address> <port>`, as STUN servers do over UDP. It reads nothing. The gRPC connection cannot
serve for this: hole punching uses another local port.
"""

import asyncio
import ipaddress

GREETING = "SKYFAN1"
_MAX_OPEN = 256
_SEND_S = 5.0


class Observer:
    """Listens on `host`, on both families if that is a wildcard; port 0 takes a free one."""

    def __init__(self) -> None:
        self._open = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Begin to listen.

        Raises:
            OSError: the address or the port cannot be used.
        """
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
        except (OSError, TimeoutError):
            return  # the client has closed the connection
        finally:
            self._open -= 1
            writer.close()


def plain_address(address: str) -> str:
    """The address as text; one that was mapped from IPv4 to IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
