"""The deployed pipeline: its state machine, and what its executor costs a second."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB
from skyfan.backends.base import DEFAULT_STATE_MACHINE
from skyfan.backends.stepfunctions.access import LOCALSTACK, Access, aws_errors
from skyfan.cost import Architecture
from skyfan.errors import BadInput, LocationError

_EXECUTOR_STATE = "ExecutorWithoutTorch"
# Where all processing jobs of an account log: "Log Amazon SageMaker AI events with Amazon CloudWatch",
# https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html (read 2026-11).
_PROCESSING_JOBS = "/aws/sagemaker/ProcessingJobs"


@dataclass(frozen=True, slots=True)
class Machine:
    """The state machine, the functions that it calls, and its executor with its size: the largest if not told.

    `computes`: what can compute ranks beside Lambda, as far as the definition tells, and the log group of each.
    """

    arn: str
    name: str
    executor: str = ""
    memory_mb: int = LAMBDA_MAX_MEMORY_MB
    architecture: Architecture = "x86_64"
    functions: tuple[str, ...] = ()
    computes: Mapping[str, str] = field(default_factory=dict)


def find_machine(access: Access, name_or_arn: str = DEFAULT_STATE_MACHINE) -> Machine:
    """The state machine of that name or ARN, in this account and region.

    Raises:
        BadInput: there is none; the sentence says how to make one.
    """
    arn = name_or_arn if name_or_arn.startswith("arn:") else _arn_of(access, name_or_arn)
    doing = f"read the state machine {name_or_arn}"
    with aws_errors(access.on, doing, not_there=_missing(access, name_or_arn)):
        found = access.states.describe_state_machine(stateMachineArn=arn)
    definition = json.loads(found["definition"])
    executor = _executor_of(definition)
    if executor is None:
        raise BadInput(f"this state machine has no state {_EXECUTOR_STATE}: it is not Skyfan's pipeline.")
    memory_mb, architecture = _size(access, executor)
    return Machine(
        arn, found["name"], executor, memory_mb, architecture, _functions_of(definition), _computes_of(definition)
    )


def _arn_of(access: Access, name: str) -> str:
    with aws_errors(access.on, "list the state machines"):
        for page in access.states.get_paginator("list_state_machines").paginate():
            for machine in page["stateMachines"]:
                if machine["name"] == name:
                    return machine["stateMachineArn"]
    raise _missing(access, name)


def _missing(access: Access, name: str) -> BadInput:
    other = "" if access.on == LOCALSTACK else " --state-machine takes another name or an ARN."
    return BadInput(
        f"there is no state machine {name} in {access.region} ({access.endpoint}): {_makes(access)}.{other}"
    )


def _incomplete(access: Access, function: str) -> BadInput:
    return BadInput(f"the state machine calls {function}, which is not there: {_makes(access)}.")


def _makes(access: Access) -> str:
    return (
        "`make localstack-up` makes it" if access.on == LOCALSTACK else "`terraform apply` in infra/terraform makes it"
    )


def _size(access: Access, function: str) -> tuple[int, Architecture]:
    """Memory and architecture of the function that computes a rank; only the estimate of the cost needs them."""
    try:
        with aws_errors(access.on, f"read the size of {function}", not_there=_incomplete(access, function)):
            size = access.functions.get_function_configuration(FunctionName=function)
    except LocationError:
        return LAMBDA_MAX_MEMORY_MB, "x86_64"  # not allowed to look: the estimate is then an upper bound
    architecture: Architecture = "arm64" if "arm64" in size.get("Architectures", []) else "x86_64"
    return size.get("MemorySize", LAMBDA_MAX_MEMORY_MB), architecture


def _executor_of(definition: dict[str, Any]) -> str | None:
    """The function that computes ranks, as the state that chooses it names it."""
    chosen = definition.get("States", {}).get(_EXECUTOR_STATE, {}).get("Result")
    return chosen if isinstance(chosen, str) else None


def _functions_of(definition: dict[str, Any]) -> tuple[str, ...]:
    """Names of all functions that the machine calls, in its order."""
    states = definition["States"].values()
    called = (state.get("Parameters", {}).get("FunctionName") or state.get("Result") for state in states)
    # "arn:aws:lambda:region:account:function:name", perhaps with a version behind it; a plain name on LocalStack.
    return tuple(dict.fromkeys(_name_of(arn) for arn in called if isinstance(arn, str)))


def _computes_of(definition: dict[str, Any]) -> dict[str, str]:
    """What the choice of a compute knows (infra/stepfunctions/batch.asl.json, sagemaker.asl.json), with log groups."""
    states = definition["States"]
    choices = states.get("WhichCompute", {}).get("Choices", ())
    return {
        rule["StringEquals"]: states[choice["Next"]].get("Result", {}).get("log_group", _PROCESSING_JOBS)
        for choice in choices
        for rule in choice.get("And", [choice])
        if rule.get("Variable") == "$.prepared.job.compute"
    }


def _name_of(function: str) -> str:
    return function.split(":")[6] if function.startswith("arn:") else function
