"""The command line that every gRPC server has."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

import structlog
from grpc import aio

from skyfan import logs
from skyfan.errors import BadInput, SkyfanError
from skyfan.rpc.server import MAX_CONCURRENT_CALLS, serve
from skyfan.settings import ServerSettings, read

# Other machines reach a server only where its operator names an address for them; the images do.
DEFAULT_ADDRESS = "127.0.0.1:50051"


def start(service: str) -> ServerSettings:
    """Sets up a server's logs and reads its settings; a variable that cannot be used ends the process."""
    try:
        logs.configure(service)
        return read(ServerSettings)
    except BadInput as error:
        sys.stderr.write(f"skyfan: {error}\n")
        sys.exit(error.exit_code)


def run_server(
    service: str,
    full_name: str,
    register: Callable[[aio.Server], None],
    argv: Sequence[str] | None = None,
    *,
    max_concurrent_calls: int = MAX_CONCURRENT_CALLS,
) -> None:
    """Parses `--address HOST:PORT` and `--announce`, then serves until told to stop."""
    settings = start(service)
    parser = argparse.ArgumentParser(prog=f"python -m skyfan.serving {service}")
    parser.add_argument("--address", default=settings.address or DEFAULT_ADDRESS)
    parser.add_argument("--announce", action="store_true", help="write the port to stdout, stop when stdin closes")
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(
            serve(
                service,
                full_name,
                register,
                arguments.address,
                announce=arguments.announce,
                max_concurrent_calls=max_concurrent_calls,
            )
        )
    except SkyfanError as error:
        structlog.get_logger().error(str(error), error=error.error_name())
        sys.exit(error.exit_code)
