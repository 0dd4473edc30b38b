"""What `skyfan doctor --on aws` tells of an account, as far as it comes."""

import pytest
from moto import mock_aws

from skyfan.backends.stepfunctions.preflight import examine_account
from skyfan.diagnosis import FAIL, OK


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield


@pytest.mark.slow
def test_an_account_without_the_pipeline_ends_with_how_to_make_it(aws):
    account, pipeline = examine_account("aws", "skyfan-pipeline", 1000, together=False)
    assert (account.subject, account.state) == ("account", OK)
    assert "us-east-1" in account.found
    assert (pipeline.subject, pipeline.state) == ("pipeline", FAIL)
    assert "`terraform apply` in infra/terraform makes it" in pipeline.found


def test_without_a_region_nothing_is_asked(aws, monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (account,) = examine_account("aws", "skyfan-pipeline", 1000, together=False)
    assert (account.state, "no AWS region is set" in account.found) == (FAIL, True)
