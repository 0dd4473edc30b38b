"""The clients of one bucket or server: how long each waits, and how often it tries."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from skyfan.store._objects import PART_BYTES, Client, Clients

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Of obstore's own tries. Those of `_calls.Retries` come on top, within its budget of time.
_EAGER: "RetryConfig" = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
_PATIENT: "RetryConfig" = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
_ONCE: "RetryConfig" = {"max_retries": 0}

# So long may pass without a byte before a request is given up and made again.
_READ_TIMEOUT_S = 20
# The answer to a put comes after its last byte: a part of 8 MiB at 0.14 MB/s, a larger body at 1 MB/s.
_WRITE_TIMEOUT_S = 60
_SLOWEST_PUT_BYTES_PER_S = 1_000_000

Make = Callable[["ClientConfig", "RetryConfig"], "Client"]


def make_clients(make: Make, *, plain_http: bool = False) -> Clients:
    """The clients of a store that `make` connects to; `plain_http`: also without TLS."""

    def connected(retry: "RetryConfig", read_timeout_s: int) -> "Client":
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=2),
            "read_timeout": timedelta(seconds=read_timeout_s),
            "timeout": timedelta(seconds=600 + read_timeout_s),
            "allow_http": plain_http,
        }
        return make(client, retry)

    creating = connected(_ONCE, _WRITE_TIMEOUT_S)

    def creating_client(size_bytes: int) -> "Client":
        if size_bytes <= PART_BYTES:
            return creating
        return connected(_ONCE, _WRITE_TIMEOUT_S + size_bytes // _SLOWEST_PUT_BYTES_PER_S)

    return Clients(
        eager=connected(_EAGER, read_timeout_s=5),
        reading=connected(_PATIENT, _READ_TIMEOUT_S),
        writing=connected(_PATIENT, _WRITE_TIMEOUT_S),
        creating=creating_client,
    )
