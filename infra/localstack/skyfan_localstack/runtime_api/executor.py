"""LocalStack's side: a runtime executor that hands invocations to the Runtime API's server.

Chosen by `LAMBDA_RUNTIME_EXECUTOR=runtime-api`. Errors reach the caller as on AWS: "Invoke",
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (as of 2026-11).
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from localstack.aws.api.lambda_ import RequestTooLargeException, ServiceException, TooManyRequestsException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from skyfan_localstack.runtime_api.dispatch import (
    MAX_REQUEST_BYTES,
    Function,
    Invocation,
    NoWorkerError,
    Outcome,
    ThrottledError,
)
from skyfan_localstack.runtime_api.log_lines import report
from skyfan_localstack.runtime_api.server import RuntimeApiServer
from skyfan_localstack.runtime_api.settings import Settings

LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Service:
    """The one event loop in which the server and all queues live, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.functions: Mapping[str, Function] = {
            name: Function(name, queue_length=settings.queue_length, queue_wait_s=settings.queue_wait_s)
            for name in settings.ports
        }
        self._server = RuntimeApiServer(self.functions, settings.ports)
        self._loop = asyncio.new_event_loop()

    def start(self) -> None:
        """Raises OSError when a port is taken."""
        threading.Thread(target=self._loop.run_forever, name="lambda-runtime-api", daemon=True).start()
        self.run(self._server.start())
        LOG.info("Lambda Runtime API: %s", ", ".join(f"{k} on port {v}" for k, v in self._server.bound.items()))

    def stop(self) -> None:
        """Close the ports and end the loop's thread."""
        self.run(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop, from a thread of LocalStack's; every wait inside has its own limit."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Holder:
    service: Service | None = None


def start(settings: Settings) -> None:
    """Open the ports; called once, when LocalStack starts."""
    _Holder.service = Service(settings)
    _Holder.service.start()


def stop() -> None:
    """Close the ports."""
    if _Holder.service is not None:
        _Holder.service.stop()
        _Holder.service = None


def _service() -> Service:
    if _Holder.service is None:
        raise ServiceException("The Lambda Runtime API is not running.")
    return _Holder.service


class RuntimeApiExecutor(RuntimeExecutor):
    """One environment of LocalStack's; many may share the same few workers, and wait for them."""

    def start(self, env_vars: dict[str, str]) -> None:
        """Nothing to start: the containers run already, with their own environment variables."""

    def stop(self) -> None:
        """Nothing to stop: the containers outlive their invocations."""

    def get_address(self) -> str:
        """An address that LocalStack asks for and nothing calls."""
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        """As `get_address`."""
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        """As `get_address`."""
        return "http://127.0.0.1"

    def get_logs(self) -> str:
        """Nothing: a worker's lines are in its container's log."""
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Refuse a function without a port: it becomes Failed, and its StateReason is this sentence."""
        name = function_version.id.function_name
        if name not in _service().functions:
            raise ValueError(f"{name} has no port: add {name}=PORT to LAMBDA_RUNTIME_API_PORTS.")

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing was prepared."""

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Hand over, wait, answer.

        Raises:
            RequestTooLargeException, TooManyRequestsException, ServiceException: as `lambda:Invoke` on AWS.
        """
        body = (payload["payload"] or "{}").encode()
        if len(body) > MAX_REQUEST_BYTES:
            raise RequestTooLargeException(
                f"{len(body)} byte payload is too large for the RequestResponse invocation type "
                f"(limit {MAX_REQUEST_BYTES} bytes)",
                Type="User",
            )
        request_id, name = payload["invoke-id"], self.function_version.id.function_name
        try:
            outcome = _service().run(self._invoke(name, body, payload))
        except ThrottledError as error:
            raise TooManyRequestsException(
                f"Rate Exceeded. {error}", Reason="ReservedFunctionConcurrentInvocationLimitExceeded", Type="User"
            ) from error
        except NoWorkerError as error:
            raise ServiceException(str(error)) from error
        version, memory_mb = self.function_version.id.qualifier, self.function_version.config.memory_size
        logs = report(request_id, version, memory_mb, outcome)
        LOG.info("%s %s", name, logs.splitlines()[-1].replace("\t", " "))
        return InvocationResult(request_id, outcome.payload, is_error=outcome.is_error, logs=logs)

    async def _invoke(self, name: str, body: bytes, payload: dict[str, str]) -> Outcome:
        invocation = Invocation(
            request_id=payload["invoke-id"],
            payload=body,
            timeout_s=float(self.function_version.config.timeout),
            function_arn=payload["invoked-function-arn"],
            trace_id=payload.get("trace-id", ""),
        )
        return await _service().functions[name].invoke(invocation)


class RuntimeApiExecutorPlugin(RuntimeExecutorPlugin):
    """LocalStack's extension point for how Lambda functions run."""

    name = "runtime-api"

    def load(self, *_: object, **__: object) -> type[RuntimeApiExecutor]:
        """The class that LocalStack makes an executor of for each environment."""
        return RuntimeApiExecutor
