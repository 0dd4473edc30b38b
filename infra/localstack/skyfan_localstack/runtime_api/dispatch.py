"""Invocations on one side, workers on the other, and who gets what: no network and no LocalStack in here.

Everything runs on one event loop, so that no lock is needed and no thread waits for a worker.

Behaviours of AWS Lambda that this keeps, with their pages as of 2026-11:
- names of lost and late workers' errors, "Handling errors in Step Functions workflows",
  https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
- response size, "Lambda quotas", https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html

One thing differs by intention: AWS throttles a call at once when the concurrency is used up; here it waits for a
worker first, because three local containers are a far smaller concurrency than a thousand environments.
"""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

MAX_REQUEST_BYTES = 6 * 1024 * 1024
MAX_RESPONSE_BYTES = MAX_REQUEST_BYTES + 100


class ThrottledError(Exception):
    """The queue is full, or no worker was free within the waiting time."""


class NoWorkerError(Exception):
    """No worker of the function is connected."""


class UnknownInvocationError(Exception):
    """The request id is not of a running invocation: never given out, finished, or timed out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller gets, and what the log says about it."""

    payload: bytes
    is_error: bool
    duration_s: float
    status: str = "success"


@dataclass(eq=False, slots=True)
class Invocation:
    """One call of a function; `taken_at` and `deadline` are set when a worker takes it."""

    request_id: str
    payload: bytes
    timeout_s: float
    function_arn: str = ""
    trace_id: str = ""
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    taken_at: float = 0.0
    deadline_ms: int = 0


@dataclass(eq=False, slots=True)
class Worker:
    """One execution environment: a connection of a runtime interface client, which it keeps open."""

    name: str
    current: Invocation | None = None


class Function:
    """The queue and the workers of one Lambda function."""

    def __init__(self, name: str, *, queue_length: int, queue_wait_s: float) -> None:
        self.name = name
        self.workers: set[Worker] = set()
        self._queue_length = queue_length
        self._queue_wait_s = queue_wait_s
        self._waiting: deque[Invocation] = deque()
        self._idle: deque[asyncio.Future[Invocation]] = deque()
        self._running: dict[str, Invocation] = {}

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Wait for a worker, then for its answer or the function's time-out.

        Raises:
            ThrottledError: the queue is full, or every worker stayed busy for the waiting time.
            NoWorkerError: no worker connected in the waiting time.
        """
        if len(self._waiting) >= self._queue_length:
            raise ThrottledError(f"{self._queue_length} invocations of {self.name} are waiting already.")
        self._waiting.append(invocation)
        self._match()
        await self._wait_for_worker(invocation)
        try:
            return await asyncio.wait_for(asyncio.shield(invocation.outcome), invocation.timeout_s)
        except TimeoutError:
            message = f"Task timed out after {invocation.timeout_s:.2f} seconds"
            self._fail(invocation, "Sandbox.Timedout", message, status="timeout")
            return invocation.outcome.result()

    async def _wait_for_worker(self, invocation: Invocation) -> None:
        """Until a worker has it, or the environment's initialisation failed on it."""
        taken = asyncio.ensure_future(invocation.taken.wait())
        either: list[asyncio.Future[Any]] = [taken, invocation.outcome]
        try:
            await asyncio.wait(either, timeout=self._queue_wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
        if invocation.taken.is_set() or invocation.outcome.done():
            return
        self._waiting.remove(invocation)
        waited = f"within {self._queue_wait_s:g} s"
        if not self.workers:
            raise NoWorkerError(f"No worker of {self.name} connected {waited}.")
        raise ThrottledError(f"All {len(self.workers)} workers of {self.name} stayed busy {waited}.")

    async def next_invocation(self, worker: Worker) -> Invocation:
        """Wait for the worker's next invocation; one that it left unanswered is lost."""
        self.connected(worker)
        self._lose_current(worker)
        offer: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        self._idle.append(offer)
        self._match()
        try:
            invocation = await offer
        except asyncio.CancelledError:
            if offer.done() and not offer.cancelled():
                self._put_back(offer.result())
            raise
        worker.current = invocation
        return invocation

    def respond(self, request_id: str, body: bytes, *, is_error: bool) -> bool:
        """Finish an invocation with its worker's answer; False when the answer is larger than AWS allows.

        Raises:
            UnknownInvocationError: nobody waits for this answer any more.
        """
        invocation = self._running.get(request_id)
        if invocation is None:
            raise UnknownInvocationError(request_id)
        if len(body) > MAX_RESPONSE_BYTES:
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            self._fail(invocation, "Function.ResponseSizeTooLarge", message)
            return False
        self._finish(invocation, body, is_error=is_error, status="error" if is_error else "success")
        return True

    def connected(self, worker: Worker) -> None:
        """The worker counts as an execution environment from now on."""
        self.workers.add(worker)

    def disconnected(self, worker: Worker) -> None:
        """The worker is gone; an invocation that it had fails at once, as on AWS."""
        self.workers.discard(worker)
        self._lose_current(worker)

    def initialisation_failed(self, body: bytes) -> None:
        """A worker could not start: like on AWS, an invocation that waits for it gets the error."""
        if self._waiting:
            self._finish(self._waiting.popleft(), body, is_error=True, status="error")

    def _match(self) -> None:
        while self._waiting and self._idle:
            offer = self._idle.popleft()
            if offer.cancelled():
                continue
            invocation = self._waiting.popleft()
            invocation.taken_at = time.monotonic()
            invocation.deadline_ms = int((time.time() + invocation.timeout_s) * 1000)
            self._running[invocation.request_id] = invocation
            invocation.taken.set()
            offer.set_result(invocation)

    def _put_back(self, invocation: Invocation) -> None:
        """It was matched with a worker that left in the same moment, and never saw it."""
        self._fail(invocation, "Runtime.ExitError", "Runtime exited before it took the invocation")

    def _lose_current(self, worker: Worker) -> None:
        if worker.current is not None:
            self._fail(worker.current, "Runtime.ExitError", "Runtime exited without answering")
            worker.current = None

    def _fail(self, invocation: Invocation, kind: str, message: str, status: str = "error") -> None:
        text = f"RequestId: {invocation.request_id} Error: {message}"
        body = json.dumps({"errorType": kind, "errorMessage": text}).encode()
        self._finish(invocation, body, is_error=True, status=status)

    def _finish(self, invocation: Invocation, body: bytes, *, is_error: bool, status: str) -> None:
        self._running.pop(invocation.request_id, None)
        if invocation.outcome.done():
            return
        duration_s = time.monotonic() - invocation.taken_at if invocation.taken.is_set() else 0.0
        invocation.outcome.set_result(Outcome(body, is_error, duration_s, status))
