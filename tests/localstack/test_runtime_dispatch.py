"""The queue between invocations and workers, without network or LocalStack."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from skyfan_localstack.runtime_api.dispatch import (
    MAX_RESPONSE_BYTES,
    Function,
    Invocation,
    NoWorkerError,
    ThrottledError,
    UnknownInvocationError,
    Worker,
)
from skyfan_localstack.runtime_api.log_lines import report


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def function(queue_length: int = 10, queue_wait_s: float = 5) -> Function:
    return Function("probe", queue_length=queue_length, queue_wait_s=queue_wait_s)


def invocation(number: int = 1, timeout_s: float = 5) -> Invocation:
    return Invocation(f"id-{number}", b"{}", timeout_s)


def error_type(payload: bytes) -> str:
    return json.loads(payload)["errorType"]


def test_invocations_are_answered_in_their_order():
    async def work() -> None:
        probe, worker = function(), Worker("w")
        calls = [asyncio.create_task(probe.invoke(invocation(n))) for n in range(3)]
        for n in range(3):
            taken = await probe.next_invocation(worker)
            assert taken.request_id == f"id-{n}"
            assert probe.respond(taken.request_id, f"answer {n}".encode(), is_error=False)
        outcomes = [await call for call in calls]
        assert [outcome.payload for outcome in outcomes] == [b"answer 0", b"answer 1", b"answer 2"]
        assert not any(outcome.is_error for outcome in outcomes)

    run(work())


def test_timeout_is_answered_once_and_the_late_answer_is_unknown():
    async def work() -> None:
        probe, worker = function(), Worker("w")
        call = asyncio.create_task(probe.invoke(invocation(timeout_s=0.05)))
        taken = await probe.next_invocation(worker)
        outcome = await call
        assert outcome.is_error
        assert outcome.status == "timeout"
        assert error_type(outcome.payload) == "Sandbox.Timedout"
        assert b"Task timed out after 0.05 seconds" in outcome.payload
        with pytest.raises(UnknownInvocationError):
            probe.respond(taken.request_id, b"late", is_error=False)

    run(work())


def test_lost_worker_fails_only_its_own_invocation():
    async def work() -> None:
        probe, lost, other = function(), Worker("lost"), Worker("other")
        calls = [asyncio.create_task(probe.invoke(invocation(n))) for n in range(2)]
        await probe.next_invocation(lost)
        taken = await probe.next_invocation(other)
        probe.disconnected(lost)
        assert error_type((await calls[0]).payload) == "Runtime.ExitError"
        probe.respond(taken.request_id, b"fine", is_error=False)
        assert (await calls[1]).payload == b"fine"

    run(work())


def test_worker_that_polls_again_without_answering_has_lost_its_invocation():
    async def work() -> None:
        probe, worker = function(), Worker("w")
        calls = [asyncio.create_task(probe.invoke(invocation(n))) for n in range(2)]
        await probe.next_invocation(worker)
        await probe.next_invocation(worker)
        assert error_type((await calls[0]).payload) == "Runtime.ExitError"
        calls[1].cancel()

    run(work())


def test_idle_worker_that_leaves_takes_nothing_with_it():
    async def work() -> None:
        probe, left, stays = function(), Worker("left"), Worker("stays")
        polling = asyncio.create_task(probe.next_invocation(left))
        await asyncio.sleep(0)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        probe.disconnected(left)
        call = asyncio.create_task(probe.invoke(invocation()))
        taken = await probe.next_invocation(stays)
        probe.respond(taken.request_id, b"fine", is_error=False)
        assert (await call).payload == b"fine"

    run(work())


def test_queue_is_bounded_in_length_and_time():
    async def work() -> None:
        probe = function(queue_length=1, queue_wait_s=0.05)
        probe.connected(Worker("busy"))
        waiting = asyncio.create_task(probe.invoke(invocation(1)))
        await asyncio.sleep(0)
        with pytest.raises(ThrottledError, match="1 invocations of probe are waiting"):
            await probe.invoke(invocation(2))
        with pytest.raises(ThrottledError, match="All 1 workers of probe stayed busy"):
            await waiting

    run(work())


def test_without_workers_the_wait_ends_in_an_error_that_says_so():
    async def work() -> None:
        with pytest.raises(NoWorkerError, match=r"No worker of probe connected within 0\.05 s"):
            await function(queue_wait_s=0.05).invoke(invocation())

    run(work())


def test_answer_too_large_fails_the_invocation():
    async def work() -> None:
        probe = function()
        call = asyncio.create_task(probe.invoke(invocation()))
        taken = await probe.next_invocation(Worker("w"))
        assert not probe.respond(taken.request_id, b"x" * (MAX_RESPONSE_BYTES + 1), is_error=False)
        assert error_type((await call).payload) == "Function.ResponseSizeTooLarge"

    run(work())


def test_failed_initialisation_reaches_a_waiting_invocation():
    async def work() -> None:
        probe = function()
        call = asyncio.create_task(probe.invoke(invocation()))
        await asyncio.sleep(0)
        probe.initialisation_failed(b'{"errorType": "Runtime.ImportModuleError"}')
        outcome = await call
        assert outcome.is_error
        assert error_type(outcome.payload) == "Runtime.ImportModuleError"
        # The dead letter is gone from the queue: the next worker waits for the next call.
        polling = asyncio.create_task(probe.next_invocation(Worker("w")))
        await asyncio.sleep(0.01)
        assert not polling.done()
        polling.cancel()

    run(work())


def test_report_bills_whole_milliseconds():
    async def work() -> None:
        probe = function()
        call = asyncio.create_task(probe.invoke(invocation()))
        taken = await probe.next_invocation(Worker("w"))
        probe.respond(taken.request_id, b"{}", is_error=True)
        lines = report("id-1", "$LATEST", 1769, await call).splitlines()
        assert lines[:2] == ["START RequestId: id-1 Version: $LATEST", "END RequestId: id-1"]
        fields = dict(field.split(": ", 1) for field in lines[2].split("\t"))
        assert int(fields["Billed Duration"].removesuffix(" ms")) >= float(fields["Duration"].removesuffix(" ms"))
        assert fields["Memory Size"] == "1769 MB"
        assert fields["Status"] == "error"

    run(work())
