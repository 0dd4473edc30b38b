"""What an AWS account and a deployment allow, against what a run asks for: which limit binds, and how it is raised.

Limits of AWS and their sources are in `skyfan.aws_limits`. What is in force in an account is told by Lambda's
GetAccountSettings, what was granted by GetServiceQuota of Service Quotas (both read 2026-11).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skyfan.aws_limits import LAMBDA_CONCURRENCY, LAMBDA_NEW_ACCOUNT_MEMORY_MB, MAP_CONCURRENCY
from skyfan.backends.stepfunctions.access import Access, aws_errors
from skyfan.backends.stepfunctions.state_machine import Machine
from skyfan.errors import LocationError

MAP_CONCURRENCY_VARIABLE = "SKYFAN_MAP_CONCURRENCY"
# The quota's code in Service Quotas: "Concurrent executions" of Lambda.
CONCURRENT_EXECUTIONS_CODE = "L-B99A9384"
# Executions that Lambda keeps back for functions that reserve none.
_KEPT_UNRESERVED = 100


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Of one account and region. `granted` is what Service Quotas names, None where that may not be read.

    `in_force` is Lambda's limit of concurrent executions, `unreserved` what reservations of other functions leave.
    """

    in_force: int
    unreserved: int
    granted: int | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the deployment itself allows; None where it sets no limit or may not be looked at."""

    map_concurrency: int | None
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks for: ranks side by side, `together` if they have to be (--collectives)."""

    max_concurrency: int
    together: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """One limit that binds: what is asked for and what allowed. `fatal`: the run fails, and is not just slower."""

    limit: str
    asked: int
    allowed: int
    fix: str
    fatal: bool = False

    @property
    def found(self) -> str:
        """What binds and what that does, without how to raise it."""
        effect = "the run would fail" if self.fatal else "the run takes longer, nothing is lost"
        return f"{self.limit}: {self.asked:,} asked for, {self.allowed:,} allowed ({effect})"

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}."


def read_account_limits(access: Access) -> AccountLimits:
    """The account's limits on Lambda, in this region.

    Raises:
        LocationError: Lambda's account settings may not be read.
    """
    with aws_errors(access.on, "read Lambda's account settings"):
        limits = access.functions.get_account_settings()["AccountLimit"]
    return AccountLimits(
        in_force=limits["ConcurrentExecutions"],
        unreserved=limits["UnreservedConcurrentExecutions"],
        granted=_granted(access),
    )


def _granted(access: Access) -> int | None:
    """The quota as Service Quotas has it: in a new account far above the limit in force."""
    import boto3

    quotas: Any = boto3.client("service-quotas", region_name=access.region)
    try:
        with aws_errors(access.on, "read Lambda's quota"):
            found = quotas.get_service_quota(ServiceCode="lambda", QuotaCode=CONCURRENT_EXECUTIONS_CODE)
    except LocationError:
        return None  # not allowed to look: the limit in force is the one that counts
    return int(found["Quota"]["Value"])


def read_deployment(access: Access, machine: Machine) -> Deployment:
    """What the deployed pipeline allows, as its partitioner is told.

    Raises:
        LocationError: the function may not be looked at.
    """
    partitioner = next(name for name in machine.functions if name.endswith("partitioner"))
    with aws_errors(access.on, f"read the settings of {partitioner}"):
        found = access.functions.get_function_configuration(FunctionName=partitioner)
    allowed = found.get("Environment", {}).get("Variables", {}).get(MAP_CONCURRENCY_VARIABLE)
    return Deployment(int(allowed) if allowed else None, machine.memory_mb)


def binding_limits(demand: Demand, account: AccountLimits, deployment: Deployment) -> list[Binding]:
    """Every limit that binds this run, the tightest first; none where the run gets what it asks for."""
    return sorted(_bindings(demand, account, deployment), key=lambda binding: (not binding.fatal, binding.allowed))


def _bindings(demand: Demand, account: AccountLimits, deployment: Deployment) -> Iterator[Binding]:
    needed = demand.max_concurrency
    if deployment.map_concurrency is not None and needed > deployment.map_concurrency:
        fix = f"terraform apply -var map_concurrency={needed}"
        yield Binding("the deployment's map_concurrency", needed, deployment.map_concurrency, fix, demand.together)
    # Ranks are throttled beyond the account's limit, and tried again for hours; together they must be there at once.
    allowed = min(account.in_force, account.unreserved)
    within = min(needed, deployment.map_concurrency or needed)
    if within > allowed:
        yield Binding(
            "Lambda's concurrent executions", within, allowed, _how_to_raise(within, account), demand.together
        )
    if within > MAP_CONCURRENCY:
        yield Binding(
            "children of a Distributed Map", within, MAP_CONCURRENCY, "ask for no more workers", demand.together
        )
    if deployment.memory_mb > LAMBDA_NEW_ACCOUNT_MEMORY_MB and account.in_force < LAMBDA_CONCURRENCY:
        yield Binding(
            "memory of a function in a new account, in MB",
            deployment.memory_mb,
            LAMBDA_NEW_ACCOUNT_MEMORY_MB,
            f"terraform apply -var executor_memory_mb={LAMBDA_NEW_ACCOUNT_MEMORY_MB}, or ask AWS Support for more",
            fatal=True,
        )


def _how_to_raise(needed: int, account: AccountLimits) -> str:
    if account.unreserved < account.in_force and needed <= account.in_force - _KEPT_UNRESERVED:
        return "other functions reserve the rest: lower their reservations"
    asked = max(LAMBDA_CONCURRENCY, needed)
    code = f"quota {CONCURRENT_EXECUTIONS_CODE} of Lambda in Service Quotas"
    if account.granted is not None and account.granted > account.in_force:
        # The console shows the default, and a new account is held to less until it has been used or somebody asked.
        return f"{code} shows {account.granted:,}, a new account gets less: ask AWS Support to put it in force"
    return f"ask for {asked:,} of {code} (free; hours to days)"
