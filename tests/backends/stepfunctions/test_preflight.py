"""What `skyfan doctor --on aws` tells of an account, as far as it comes."""

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from skyfan.backends.stepfunctions import preflight
from skyfan.backends.stepfunctions.access import open_access
from skyfan.backends.stepfunctions.preflight import examine_account
from skyfan.diagnosis import FAIL, OK, WARN


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def functions(aws, monkeypatch):
    """Lambda and Service Quotas, whose answers a test gives: the emulator has no account settings."""
    access, quotas = open_access("aws"), boto3.client("service-quotas", region_name="us-east-1")
    plain_client = boto3.client

    def client(service, **given):
        return quotas if service == "service-quotas" else plain_client(service, **given)

    monkeypatch.setattr(boto3, "client", client)
    monkeypatch.setattr(preflight, "open_access", lambda _on: access)
    with Stubber(access.functions) as lambda_, Stubber(quotas) as service_quotas:
        quota = {"ServiceCode": "lambda", "QuotaCode": "L-B99A9384"}
        service_quotas.add_response("get_service_quota", {"Quota": {**quota, "Value": 1000.0}}, quota)
        yield lambda_


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "state", "told"), [(1000, WARN, "1,000 asked for, 10 allowed"), (10, OK, "10 ranks")]
)
def test_before_there_is_a_pipeline_the_accounts_limits_are_told(functions, workers, state, told):
    limits = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
    functions.add_response("get_account_settings", {"AccountLimit": limits, "AccountUsage": {}}, {})
    account, pipeline, quotas = examine_account("aws", "skyfan-pipeline", workers, together=False)
    assert (account.subject, account.state) == ("account", OK)
    assert "us-east-1" in account.found
    assert (pipeline.subject, pipeline.state) == ("pipeline", FAIL)
    assert "`terraform apply` in infra/terraform makes it" in pipeline.found
    assert (quotas.subject, quotas.state) == ("quotas", state)
    assert told in quotas.found


@pytest.mark.slow
def test_limits_that_may_not_be_read_are_a_finding(functions):
    functions.add_client_error("get_account_settings", "AccessDeniedException", "not you.")
    *_, quotas = examine_account("aws", "skyfan-pipeline", 10, together=False)
    assert (quotas.subject, quotas.state) == ("quotas", FAIL)
    assert "runner_policy_arn" in quotas.found


def test_without_a_region_nothing_is_asked(aws, monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (account,) = examine_account("aws", "skyfan-pipeline", 1000, together=False)
    assert (account.state, "no AWS region is set" in account.found) == (FAIL, True)
