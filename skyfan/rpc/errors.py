"""Skyfan errors over gRPC: the one place where they become a status, and a status becomes them again."""

import grpc
from grpc import aio

from skyfan import errors
from skyfan.rpc.service_token import shared_token

ERROR_KEY = "skyfan-error"
TOKEN_KEY = "skyfan-token"  # noqa: S105 (the metadata key's name, not a secret)

# The first class that fits decides, so children stand before their parents.
_STATUS: tuple[tuple[type[errors.SkyfanError], grpc.StatusCode], ...] = (
    (errors.RunConflict, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.LocationError, grpc.StatusCode.NOT_FOUND),
    (errors.BadInput, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Transient, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Interrupted, grpc.StatusCode.CANCELLED),
    (errors.SkyfanError, grpc.StatusCode.INTERNAL),
)

# Statuses that gRPC itself gives when no Skyfan code answered.
_TRANSPORT: dict[grpc.StatusCode, type[errors.SkyfanError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.Transient,
    grpc.StatusCode.UNAUTHENTICATED: errors.BadInput,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Transient,
    grpc.StatusCode.ABORTED: errors.Transient,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    # A server that is killed while it streams can surface as any of these.
    grpc.StatusCode.CANCELLED: errors.Transient,
    grpc.StatusCode.UNKNOWN: errors.Transient,
    grpc.StatusCode.INTERNAL: errors.Transient,
}


def status_of(error: errors.SkyfanError) -> grpc.StatusCode:
    """The gRPC status under which `error` travels."""
    return next(code for kind, code in _STATUS if isinstance(error, kind))


def error_of(call_error: aio.AioRpcError, what: str) -> errors.SkyfanError:
    """The Skyfan error behind a failed call; `what` names the call for the user ("executor 10.0.0.3:50051")."""
    for key, value in call_error.trailing_metadata() or ():
        if key == ERROR_KEY:
            return errors.by_name(str(value), call_error.details() or "no details given")
    kind = _TRANSPORT.get(call_error.code(), errors.SkyfanError)
    return kind(f"{what} did not answer: {call_error.code().name}, {call_error.details() or 'no details given'}.")


def is_from_server(call_error: aio.AioRpcError) -> bool:
    """Whether the server itself gave this error; otherwise it died, froze, or the connection to it broke."""
    return any(key == ERROR_KEY for key, _ in call_error.trailing_metadata() or ())


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that every client call carries: the shared token, if one is set."""
    token = shared_token()
    return ((TOKEN_KEY, token),) if token else ()
