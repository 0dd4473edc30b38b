"""Executions that were started earlier, by anyone: list, look into, stop, redrive."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from skyfan.backends.stepfunctions.access import LOCALSTACK, Access, aws_errors
from skyfan.backends.stepfunctions.machine import Machine
from skyfan.errors import BadInput
from skyfan.rpc.lambda_errors import lambda_message


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
                yield RunListed(
                    found["name"], found["executionArn"], found["status"], found["startDate"], found.get("stopDate")
                )

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
    with aws_errors(access.on, "look at the execution", not_there=_no_such_run(arn)):
        found = access.states.describe_execution(executionArn=arn)
        runs = access.states.list_map_runs(executionArn=arn)["mapRuns"]
        ranks = _ranks(access, runs[0]["mapRunArn"]) if runs else {}
    listed = RunListed(found["name"], arn, found["status"], found["startDate"], found.get("stopDate"))
    return RunShown(
        listed,
        request=json.loads(found.get("input", "{}")),
        ranks=ranks,
        output=json.loads(found["output"]) if found.get("output") else None,
        error=found.get("error"),
        cause=lambda_message(found["cause"]) if found.get("cause") else None,
    )


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


def redrive(access: Access, arn: str) -> None:
    """Takes a failed execution up again where it failed, within 14 days; its name and history stay.

    Raises:
        BadInput: on LocalStack, which has no redrive, or where AWS refuses it.
    """
    if access.on == LOCALSTACK:
        raise BadInput("LocalStack has no redrive: the same `skyfan run` command again resumes the run.")
    with aws_errors(access.on, f"redrive {arn}", not_there=_no_such_run(arn)):
        access.states.redrive_execution(executionArn=arn)


def _no_such_run(arn: str) -> BadInput:
    return BadInput(f"there is no execution {arn}; `skyfan runs list` shows those that there are.")
