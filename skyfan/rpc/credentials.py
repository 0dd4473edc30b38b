"""Mutual TLS by files named in the environment (`skyfan.settings.CallSettings`); plain text where none is named."""

import ipaddress
from dataclasses import dataclass

import grpc
from grpc import aio

from skyfan.errors import BadInput
from skyfan.rpc.channel_options import channel_options
from skyfan.settings import CallSettings, read, variable

TLS_VARIABLES = tuple(variable(CallSettings, name) for name in ("tls_cert", "tls_key", "tls_ca"))


@dataclass(frozen=True)
class TlsFiles:
    """The PEM contents of certificate, key and authority."""

    certificate: bytes
    key: bytes
    authority: bytes


def tls_from_environment() -> TlsFiles | None:
    """The TLS files named in the environment; None when none is.

    Raises:
        BadInput: only some are named, or one cannot be read.
    """
    settings = read(CallSettings)
    named = (settings.tls_cert, settings.tls_key, settings.tls_ca)
    if not any(named):
        return None
    paths = [path for path in named if path]
    if len(paths) < len(named):
        raise BadInput(f"TLS needs all of {', '.join(TLS_VARIABLES)}; set the missing ones or none of them.")
    contents = []
    for name, path in zip(TLS_VARIABLES, paths, strict=True):
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise BadInput(f"{name} names {path}, which cannot be read: {error.strerror}.") from error
    return TlsFiles(*contents)


def open_channel(address: str, *, server_name: str | None = None, plain: bool = False) -> aio.Channel:
    """A client channel to `host:port`, with TLS if the environment names its files and `plain` is not asked for.

    The server's certificate has to name the host of `address`, or `server_name` where that is given: replicas
    behind one name are called by their addresses.
    """
    tls = None if plain else tls_from_environment()
    if tls is None:
        return aio.insecure_channel(address, options=channel_options())
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
    options = channel_options()
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return aio.secure_channel(address, credentials, options=options)


def bind(server: aio.Server, address: str) -> int:
    """Makes `server` listen on `host:port` and returns the port (useful when 0 was asked for).

    Raises:
        BadInput: the port is taken, or the address is not of this machine.
    """
    tls = tls_from_environment()
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials(
                [(tls.key, tls.certificate)], root_certificates=tls.authority, require_client_auth=True
            )
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise BadInput(f"cannot listen on {address}: {error}. Choose another --address.") from error
    if port == 0:
        raise BadInput(f"cannot listen on {address}: the port is taken or the address is not this machine's.")
    return port


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that listens on `host:port`."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which can mean anything
        return False
