"""Executions that were started earlier, by anyone: list, look into, stop, redrive."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from skyfan.backends.stepfunctions.access import LOCALSTACK, Access, aws_errors
from skyfan.backends.stepfunctions.state_machine import Machine
from skyfan.errors import BadInput
from skyfan.job import LAMBDA
from skyfan.rpc.lambda_errors import lambda_message

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, ExecutionListItemTypeDef

# Names of executions have at most 80 characters; what an earlier redrive added to one goes before more is added.
_STEM_LENGTH = 50
_AGAIN = re.compile(r"-again-\d{8}T\d{6}-[0-9a-f]{4}$")


@dataclass(frozen=True, slots=True)
class RunListed:
    """One execution in a list."""

    name: str
    arn: str
    status: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunShown:
    """One execution with its input, its map's ranks by state, and what came of it."""

    listed: RunListed
    request: dict[str, Any]
    ranks: dict[str, int]
    output: dict[str, Any] | None
    error: str | None
    cause: str | None


def list_runs(access: Access, machine: Machine, limit: int) -> list[RunListed]:
    """The latest executions, newest first."""

    def pages() -> Iterator[RunListed]:
        for page in access.states.get_paginator("list_executions").paginate(stateMachineArn=machine.arn):
            for found in page["executions"]:
                yield _listed(found)

    with aws_errors(access.on, f"list the executions of {machine.name}"):
        return list(islice(pages(), limit))


def execution_arn(machine: Machine, name_or_arn: str) -> str:
    """The ARN of an execution that is named, or the ARN itself."""
    if name_or_arn.startswith("arn:"):
        return name_or_arn
    return f"{machine.arn.replace(':stateMachine:', ':execution:')}:{name_or_arn}"


def show_run(access: Access, arn: str) -> RunShown:
    """Everything that Step Functions keeps of one execution.

    Raises:
        BadInput: there is no such execution.
    """
    found = _described(access, arn)
    with aws_errors(access.on, "look at the execution", not_there=_no_such_run(arn)):
        runs = access.states.list_map_runs(executionArn=arn)["mapRuns"]
        ranks = _ranks(access, runs[0]["mapRunArn"]) if runs else {}
    return RunShown(
        _listed(found),
        request=json.loads(found.get("input", "{}")),
        ranks=ranks,
        output=json.loads(found["output"]) if found.get("output") else None,
        error=found.get("error"),
        cause=lambda_message(found["cause"]) if found.get("cause") else None,
    )


def find_run(access: Access, arn: str) -> RunListed:
    """One execution, as a list has it.

    Raises:
        BadInput: there is no such execution.
    """
    return _listed(_described(access, arn))


def find_compute(access: Access, arn: str) -> str:
    """What computes the ranks of an execution, as its input asks.

    Raises:
        BadInput: there is no such execution.
    """
    given = json.loads(_described(access, arn).get("input", "{}"))
    return str(given.get("compute") or LAMBDA) if isinstance(given, dict) else LAMBDA


def _described(access: Access, arn: str) -> "DescribeExecutionOutputTypeDef":
    with aws_errors(access.on, "look at the execution", not_there=_no_such_run(arn)):
        return access.states.describe_execution(executionArn=arn)


def _listed(found: "ExecutionListItemTypeDef | DescribeExecutionOutputTypeDef") -> RunListed:
    return RunListed(found["name"], found["executionArn"], found["status"], found["startDate"], found.get("stopDate"))


def _ranks(access: Access, map_run_arn: str) -> dict[str, int]:
    """Ranks by state, the states that none is in left out."""
    counts = access.states.describe_map_run(mapRunArn=map_run_arn)["itemCounts"]
    by_state = {
        "in all": counts["total"],
        "pending": counts["pending"],
        "running": counts["running"],
        "succeeded": counts["succeeded"],
        "failed": counts["failed"],
        "timed out": counts["timedOut"],
        "aborted": counts["aborted"],
    }
    return {state: count for state, count in by_state.items() if count}


def redrive(access: Access, machine: Machine, arn: str, now: datetime | None = None) -> RunListed:
    """Takes a run that did not succeed up again; the execution that goes on, the same one or a new one.

    Step Functions' own redrive enters the states that were entered and not left ("Redriving state machine executions",
    https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html, read 2026-11). That is right for an
    execution that was stopped or timed out. One that failed has left them: the pipeline catches errors to record them,
    and only its last state would fail again. It gets a new execution with the same input, whose plan leaves out the
    ranks that are committed. So does every execution on LocalStack, which has no redrive.

    Raises:
        BadInput: there is no such execution, it is running, or it succeeded.
    """
    found = _described(access, arn)
    status = found["status"]
    if status in ("RUNNING", "PENDING_REDRIVE"):
        raise BadInput(f"{found['name']} is running; `skyfan runs show {arn}` tells how far it is.")
    if status == "SUCCEEDED":
        raise BadInput(f"{found['name']} succeeded: there is nothing to take up again.")
    if status == "FAILED" or access.on == LOCALSTACK:
        return _start_again(access, machine, found["name"], found.get("input", "{}"), now or datetime.now(UTC))
    with aws_errors(access.on, f"redrive {arn}"):
        access.states.redrive_execution(executionArn=arn)
    return RunListed(found["name"], arn, "RUNNING", found["startDate"], None)


def _start_again(access: Access, machine: Machine, name: str, given: str, now: datetime) -> RunListed:
    """A new execution with the input of an earlier one."""
    content = json.loads(given)
    if isinstance(content, dict) and content.get("resume") is False:
        # --no-resume removed what still earlier starts had committed; now it would remove this run's own ranks.
        given = json.dumps(content | {"resume": True})
    stem = _AGAIN.sub("", name)[:_STEM_LENGTH]
    fresh = f"{stem}-again-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    with aws_errors(access.on, f"start {machine.name}"):
        started = access.states.start_execution(stateMachineArn=machine.arn, name=fresh, input=given)
    return RunListed(fresh, started["executionArn"], "RUNNING", started["startDate"], None)


def _no_such_run(arn: str) -> BadInput:
    return BadInput(f"there is no execution {arn}; `skyfan runs list` shows those that there are.")
