"""The rendezvous service's command line: `python -m services.rendezvous --address HOST:PORT --observer-port PORT`."""

import argparse
import asyncio
import resource
import sys
from collections.abc import Sequence

import structlog

from skyfan.errors import BadInput, SkyfanError
from skyfan.rpc.main import start
from skyfan.rpc.server import announce_ports, stop_event
from skyfan.serving.rendezvous_server import RendezvousServer, max_connections
from skyfan.settings import RendezvousLimits, read

# Other machines reach it only where its operator names an address for them; the image does.
DEFAULT_ADDRESS = "127.0.0.1:50054"
_OTHER_FILES = 512  # the observer's connections, libraries, logs


async def serve(address: str, observer_port: int, *, announce: bool) -> None:
    """Serve until SIGTERM or SIGINT (or, with `announce`, until standard input closes), then drain.

    Args:
        address: HOST:PORT to listen on; port 0 takes a free one.
        observer_port: of the address observer on the same host; 0 takes a free one.
        announce: write one line of JSON with both ports to standard output.

    Raises:
        BadInput: `address` is not HOST:PORT, or cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise BadInput(f"--address {address!r} must be HOST:PORT.")
    stop = stop_event(watch_stdin=announce)
    limits = read(RendezvousLimits)
    _allow_open_files(max_connections(limits.members) + _OTHER_FILES)
    server = RendezvousServer(limits)
    await server.start(host.strip("[]"), int(port), observer_port)
    if announce:
        announce_ports(service="rendezvous", port=server.port, observer_port=server.observer.port)
    await stop.wait()
    await server.stop()


def _allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to `count` as far as the system lets it; a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; exits with the code of the error, 4 for one of the operating system."""
    settings = start("rendezvous")
    parser = argparse.ArgumentParser(prog="python -m services.rendezvous")
    parser.add_argument(
        "--address",
        default=settings.address or DEFAULT_ADDRESS,
        help=f"HOST:PORT to listen on, [::]:50054 for all networks (default: {DEFAULT_ADDRESS})",
    )
    parser.add_argument("--observer-port", type=int, default=settings.observer_port)
    parser.add_argument("--announce", action="store_true", help="write the ports to stdout, stop when stdin closes")
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(serve(arguments.address, arguments.observer_port, announce=arguments.announce))
    except (SkyfanError, OSError) as error:
        structlog.get_logger().error(str(error), error=type(error).__name__)
        sys.exit(error.exit_code if isinstance(error, SkyfanError) else 4)
