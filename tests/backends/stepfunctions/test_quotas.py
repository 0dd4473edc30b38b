"""Which limit of AWS or of the deployment binds a run, and what raises it."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from skyfan.backends.stepfunctions.access import open_access
from skyfan.backends.stepfunctions.quotas import (
    AccountLimits,
    Demand,
    Deployment,
    binding_limits,
    read_account_limits,
    read_deployment,
)
from skyfan.backends.stepfunctions.state_machine import Machine
from skyfan.errors import LocationError

NEW = AccountLimits(in_force=10, unreserved=10, granted=1000)
USUAL = AccountLimits(in_force=1000, unreserved=1000, granted=1000)
MACHINE = Machine(
    "arn", "skyfan-pipeline", "skyfan-executor", 3008, "x86_64", ("skyfan-executor", "skyfan-partitioner")
)


def told(demand: Demand, account: AccountLimits, deployment: Deployment) -> list[str]:
    return [str(binding) for binding in binding_limits(demand, account, deployment)]


def test_nothing_binds_a_run_that_fits() -> None:
    assert told(Demand(500), USUAL, Deployment(1000, 3008)) == []
    assert told(Demand(8), NEW, Deployment(10, 3008)) == []


def test_a_new_account_is_held_to_ten_whatever_the_console_shows() -> None:
    (sentence,) = told(Demand(100), NEW, Deployment(100, 3008))
    assert "Lambda's concurrent executions: 100 asked for, 10 allowed (the run takes longer" in sentence
    assert "L-B99A9384" in sentence
    assert "shows 1,000, a new account gets less: ask AWS Support" in sentence


def test_ranks_that_talk_to_each_other_fail_where_others_only_wait() -> None:
    bindings = binding_limits(Demand(64, together=True), NEW, Deployment(64, 3008))
    assert [(binding.allowed, binding.fatal) for binding in bindings] == [(10, True)]


def test_the_deployments_own_limit_comes_first_and_says_how_to_raise_it() -> None:
    (sentence,) = told(Demand(2000), USUAL, Deployment(10, 3008))
    assert "terraform apply -var map_concurrency=2000" in sentence


def test_both_bind_when_the_deployment_allows_more_than_the_account() -> None:
    sentences = told(Demand(5000), USUAL, Deployment(2000, 3008))
    assert ["1,000 allowed" in sentences[0], "2,000 allowed" in sentences[1]] == [True, True]
    assert "ask for 2,000 of quota L-B99A9384" in sentences[0]


def test_what_other_functions_reserve_is_named() -> None:
    account = AccountLimits(in_force=1000, unreserved=200, granted=1000)
    (sentence,) = told(Demand(500), account, Deployment(None, 3008))
    assert "500 asked for, 200 allowed" in sentence
    assert "lower their reservations" in sentence


def test_memory_that_a_new_account_refuses_fails_the_run() -> None:
    (binding,) = binding_limits(Demand(5), NEW, Deployment(10, 8846))
    assert (binding.asked, binding.allowed, binding.fatal) == (8846, 3008, True)
    assert binding_limits(Demand(5), USUAL, Deployment(10, 8846)) == []


@pytest.fixture
def asked(moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Stubber, Stubber]]:
    """Access whose Lambda and Service Quotas answer as AWS's models allow and no emulator does."""
    access = open_access("aws")
    quotas = boto3.client("service-quotas")
    monkeypatch.setattr(boto3, "client", lambda *_, **__: quotas)
    with Stubber(access.functions) as functions, Stubber(quotas) as service_quotas:
        yield access, functions, service_quotas


SETTINGS = {"AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}, "AccountUsage": {}}
QUOTA = {"ServiceCode": "lambda", "QuotaCode": "L-B99A9384"}


def test_limits_are_read_from_lambda_and_service_quotas(asked: tuple[Any, Stubber, Stubber]) -> None:
    access, functions, service_quotas = asked
    functions.add_response("get_account_settings", SETTINGS, {})
    service_quotas.add_response("get_service_quota", {"Quota": {**QUOTA, "Value": 1000.0}}, QUOTA)
    assert read_account_limits(access) == NEW


def test_a_quota_that_may_not_be_read_is_left_out(asked: tuple[Any, Stubber, Stubber]) -> None:
    access, functions, service_quotas = asked
    functions.add_response("get_account_settings", SETTINGS, {})
    service_quotas.add_client_error("get_service_quota", "AccessDeniedException", "not you")
    assert read_account_limits(access) == AccountLimits(10, 10, None)


def test_account_settings_that_may_not_be_read_say_which_policy_helps(asked: tuple[Any, Stubber, Stubber]) -> None:
    access, functions, _ = asked
    functions.add_client_error("get_account_settings", "AccessDeniedException", "not you.")
    with pytest.raises(LocationError, match="runner_policy_arn"):
        read_account_limits(access)


@pytest.mark.slow
@pytest.mark.parametrize(("variables", "allowed"), [({"SKYFAN_MAP_CONCURRENCY": "40"}, 40), ({}, None)])
def test_the_deployments_limit_is_its_partitioners(
    asked: tuple[Any, Stubber, Stubber], variables: dict[str, str], allowed: int | None
) -> None:
    access, functions, _ = asked
    answer = {"Environment": {"Variables": variables}}
    functions.add_response("get_function_configuration", answer, {"FunctionName": "skyfan-partitioner"})
    assert read_deployment(access, MACHINE) == Deployment(allowed, 3008)
