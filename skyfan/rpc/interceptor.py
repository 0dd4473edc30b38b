"""What every call passes on a server: the shared token, the limit on calls at once, errors as statuses, the log.

The token is checked on the call's headers, before a byte of its request is waited for or read, and whatever the
method is: health checks and reflection too. So callers without it take no slot among the calls at once.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from skyfan import errors
from skyfan.plain_text import printable
from skyfan.rpc.errors import ERROR_KEY, TOKEN_KEY, status_of
from skyfan.rpc.service_token import TOKEN_VARIABLE, shared_token

# Streams of gRPC's own services: reflection, for developers. Health's Watch is not offered: it never ends.
MAX_SERVICE_STREAMS = 8
WATCH = "/grpc.health.v1.Health/Watch"

_Context: TypeAlias = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # subscriptable in its stubs only
_Parse: TypeAlias = Callable[[bytes], Any] | None


class CallInterceptor(aio.ServerInterceptor):
    """One server's rules. `max_concurrent_calls` counts calls with a valid token; None for no limit."""

    def __init__(self, service: str, max_concurrent_calls: int | None = None) -> None:
        self._log = structlog.get_logger(service)
        self._token = shared_token()
        self._calls = _Slots(max_concurrent_calls, f"this {service} has {max_concurrent_calls} calls in hand")
        self._streams = _Slots(MAX_SERVICE_STREAMS, f"this {service} has {MAX_SERVICE_STREAMS} streams open")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[_Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Refuses calls without the token; wraps the others' handlers."""
        method = handler_call_details.method
        if not self._has_token(handler_call_details):
            return grpc.stream_stream_rpc_method_handler(self._refuse)
        handler = await continuation(handler_call_details)
        if handler is None or method == WATCH:
            return None
        parse, serialize = handler.request_deserializer, handler.response_serializer
        # Requests are parsed by the wrappers: what gRPC answers to one that cannot be parsed blames the server.
        if handler.unary_unary:
            # A server with all hands full is healthy.
            slots = self._calls if method.startswith("/skyfan.") else _Slots(None, "")
            unary = self._unary(handler.unary_unary, method, parse, slots)
            return grpc.unary_unary_rpc_method_handler(unary, response_serializer=serialize)
        if handler.unary_stream:
            stream = self._stream(lambda data, context: handler.unary_stream(_parsed(data, parse), context), method)
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=serialize)
        if handler.stream_stream and not method.startswith("/skyfan."):
            stream = self._stream(handler.stream_stream, method, self._streams)
            return grpc.stream_stream_rpc_method_handler(stream, parse, serialize)
        if handler.stream_stream:
            duplex = self._duplex(handler.stream_stream, method, parse)
            return grpc.stream_stream_rpc_method_handler(duplex, response_serializer=serialize)
        return handler

    def _has_token(self, details: grpc.HandlerCallDetails) -> bool:
        given = dict(details.invocation_metadata or ()).get(TOKEN_KEY, "")
        return not self._token or hmac.compare_digest(str(given).encode(), self._token.encode())

    async def _refuse(self, _requests: AsyncIterator[bytes], context: _Context) -> None:
        """Answers at once, with a handler of streams, because that of a single request would wait for it first."""
        sentence = f"the call carries no valid token; set {TOKEN_VARIABLE} alike on both ends."
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, sentence, ((ERROR_KEY, errors.BadInput.error_name()),))

    def _unary(self, behaviour: Any, method: str, parse: _Parse, slots: "_Slots") -> Callable[..., Awaitable[Any]]:
        async def answer(data: bytes, context: _Context) -> Any:
            try:
                with slots.taken():
                    return await behaviour(_parsed(data, parse), context)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (every one is answered by _fail)
                await self._fail(error, method, context)

        return answer

    def _stream(self, behaviour: Any, method: str, slots: "_Slots | None" = None) -> Callable[..., AsyncIterator[Any]]:
        async def answer(request: Any, context: _Context) -> AsyncIterator[Any]:
            try:
                with (slots or self._calls).taken():
                    async for event in behaviour(request, context):
                        yield event
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (every one is answered by _fail)
                await self._fail(error, method, context)

        return answer

    def _duplex(self, behaviour: Any, method: str, parse: _Parse) -> Callable[..., Awaitable[None]]:
        """For streams in both directions whose handlers write their replies; their number is the service's concern."""

        async def answer(requests: AsyncIterator[bytes], context: _Context) -> None:
            try:
                await behaviour(_parsed_each(requests, parse), context)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (every one is answered by _fail)
                await self._fail(error, method, context)

        return answer

    async def _fail(self, error: BaseException, method: str, context: _Context) -> NoReturn:
        if isinstance(error, aio.AbortError | asyncio.CancelledError):
            self._log.info("call ended early", method=method)
            raise error
        if isinstance(error, errors.SkyfanError):
            self._log.warning("call failed", method=method, error=error.error_name(), message=str(error))
            failure = error
        else:
            self._log.exception("call failed unexpectedly", method=method)
            details = "no memory left" if isinstance(error, MemoryError) else error
            failure = errors.SkyfanError(f"{type(error).__name__}: {details}")
        # A lone surrogate in a name could not be sent.
        await context.abort(status_of(failure), printable(str(failure)), ((ERROR_KEY, failure.error_name()),))


async def _parsed_each(requests: AsyncIterator[bytes], parse: _Parse) -> AsyncIterator[Any]:
    """A generator function: an expression would begin to read requests that the handler may refuse."""
    async for data in requests:
        yield _parsed(data, parse)


def _parsed(data: bytes, parse: _Parse) -> Any:
    try:
        return parse(data) if parse else data
    except DecodeError as error:
        raise errors.BadInput(f"the request cannot be read: {error}.") from error


class _Slots:
    """How many calls run at once; one more is refused at once, and its caller tries again later."""

    def __init__(self, limit: int | None, refusal: str) -> None:
        self._limit, self._refusal = limit, refusal
        self._in_use = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        if self._limit is not None and self._in_use >= self._limit:
            raise errors.Busy(f"{self._refusal}; try again later.")
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
