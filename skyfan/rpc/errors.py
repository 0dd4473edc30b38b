"""Skyfan errors over gRPC: the one place where they become a status, and a status becomes them again."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog
from grpc import aio

from skyfan import errors
from skyfan.rpc.credentials import TOKEN_VARIABLE, shared_token

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


class ErrorInterceptor(aio.ServerInterceptor):
    """Maps what a handler raises to a status, checks the shared token, and logs every call once."""

    def __init__(self, service: str) -> None:
        self._log = structlog.get_logger(service)
        self._token = shared_token()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps unary and server-streaming handlers of Skyfan's own services."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/skyfan."):
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler

    def _unary(self, behaviour: Any, method: str) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            try:
                self._check_token(context)
                return await behaviour(request, context)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (every one is answered by _fail)
                await self._fail(error, method, context)

        return answer

    def _stream(self, behaviour: Any, method: str) -> Callable[..., AsyncIterator[Any]]:
        async def answer(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                self._check_token(context)
                async for event in behaviour(request, context):
                    yield event
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (every one is answered by _fail)
                await self._fail(error, method, context)

        return answer

    def _check_token(self, context: aio.ServicerContext[Any, Any]) -> None:
        if not self._token:
            return
        given = dict(context.invocation_metadata() or ()).get(TOKEN_KEY, "")
        if not hmac.compare_digest(str(given).encode(), self._token.encode()):
            raise errors.BadInput(f"the call carries no valid token; set {TOKEN_VARIABLE} alike on both ends.")

    async def _fail(self, error: BaseException, method: str, context: aio.ServicerContext[Any, Any]) -> NoReturn:
        if isinstance(error, aio.AbortError | asyncio.CancelledError):
            self._log.info("call ended early", method=method)
            raise error
        if isinstance(error, errors.SkyfanError):
            self._log.warning("call failed", method=method, error=error.error_name(), message=str(error))
            failure = error
        else:
            self._log.exception("call failed unexpectedly", method=method)
            failure = errors.SkyfanError(f"{type(error).__name__}: {error}")
        await context.abort(status_of(failure), str(failure), ((ERROR_KEY, failure.error_name()),))


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that every client call carries: the shared token, if one is set."""
    token = shared_token()
    return ((TOKEN_KEY, token),) if token else ()
