"""`skyfan doctor --on aws`: the account, the deployment, and which of their limits a run would meet."""

from collections.abc import Iterator
from typing import Any

from skyfan.aws_limits import LAMBDA_NEW_ACCOUNT_MEMORY_MB
from skyfan.backends.stepfunctions.access import AWS, Access, aws_errors, open_access
from skyfan.backends.stepfunctions.quotas import (
    AccountLimits,
    Demand,
    Deployment,
    binding_limits,
    read_account_limits,
    read_deployment,
)
from skyfan.backends.stepfunctions.state_machine import Machine, find_machine
from skyfan.diagnosis.findings import FAIL, OK, WARN, Finding
from skyfan.errors import SkyfanError


def examine_account(on: str, state_machine: str, workers: int, *, together: bool) -> Iterator[Finding]:
    """Who calls, what is deployed, and on AWS which limits bind `workers` ranks at once.

    The account's limits are told before there is a pipeline, too: higher ones take days to get.
    """
    try:
        access = open_access(on)
        yield Finding("account", OK, _caller(access))
    except SkyfanError as error:
        yield _failed("account", error)
        return
    machine = None
    try:
        machine = find_machine(access, state_machine)
        yield Finding("pipeline", OK, f"{machine.arn}, executors of {machine.memory_mb:,} MB")
    except SkyfanError as error:
        yield _failed("pipeline", error)
    if on != AWS:  # an emulator has no quotas
        return
    demand = Demand(workers, together)
    try:
        yield from _quotas(demand, read_account_limits(access), _deployment(access, machine))
    except SkyfanError as error:
        yield _failed("quotas", error)


def _deployment(access: Access, machine: Machine | None) -> Deployment:
    """What is deployed; before that a deployment that binds nothing, of a size that every account allows."""
    return read_deployment(access, machine) if machine else Deployment(None, LAMBDA_NEW_ACCOUNT_MEMORY_MB)


def _quotas(demand: Demand, account: AccountLimits, deployment: Deployment) -> Iterator[Finding]:
    bindings = binding_limits(demand, account, deployment)
    for binding in bindings:
        yield Finding("quotas", FAIL if binding.fatal else WARN, binding.found, binding.fix)
    if not bindings:
        yield Finding("quotas", OK, f"{demand.max_concurrency:,} ranks at once are allowed")


def _failed(subject: str, error: SkyfanError) -> Finding:
    return Finding(subject, FAIL, str(error).rstrip("."), error.cure.rstrip("."))


def _caller(access: Access) -> str:
    """Who the credentials are, which needs no permission: https://docs.aws.amazon.com/STS/latest/APIReference/."""
    import boto3

    tokens: Any = boto3.client("sts", region_name=access.region)
    with aws_errors(access.on, "ask who these credentials are"):
        return f"{tokens.get_caller_identity()['Arn']} in {access.region}"
