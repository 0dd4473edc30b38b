"""`skyfan doctor --on aws`: the account, the deployment, and which of their limits a run would meet."""

from collections.abc import Iterator
from typing import Any

from skyfan.backends.stepfunctions.access import AWS, Access, aws_errors, open_access
from skyfan.backends.stepfunctions.machine import find_machine
from skyfan.backends.stepfunctions.quotas import (
    Demand,
    binding_limits,
    read_account_limits,
    read_deployment,
)
from skyfan.diagnosis.findings import FAIL, OK, WARN, Finding
from skyfan.errors import SkyfanError


def examine_account(on: str, state_machine: str, workers: int, *, together: bool) -> Iterator[Finding]:
    """Who calls, what is deployed, and on AWS which limits bind `workers` ranks at once; ends at what fails."""
    subject = "account"
    try:
        access = open_access(on)
        yield Finding(subject, OK, _caller(access))
        subject = "pipeline"
        machine = find_machine(access, state_machine)
        yield Finding(subject, OK, f"{machine.arn}, executors of {machine.memory_mb:,} MB")
        if on != AWS:  # an emulator has no quotas
            return
        subject = "quotas"
        demand = Demand(ranks=workers, at_once=workers, together=together)
        bindings = binding_limits(demand, read_account_limits(access), read_deployment(access, machine))
        for binding in bindings:
            yield Finding(subject, FAIL if binding.fatal else WARN, binding.found, binding.fix)
        if not bindings:
            yield Finding(subject, OK, f"{workers:,} ranks at once are allowed")
    except SkyfanError as error:
        yield Finding(subject, FAIL, str(error).rstrip("."), error.cure.rstrip("."))


def _caller(access: Access) -> str:
    """Who the credentials are, which needs no permission: https://docs.aws.amazon.com/STS/latest/APIReference/."""
    import boto3

    tokens: Any = boto3.client("sts", region_name=access.region)
    with aws_errors(access.on, "ask who these credentials are"):
        return f"{tokens.get_caller_identity()['Arn']} in {access.region}"
