"""The services' token comes from Secrets Manager where the environment names a secret, and from nowhere else."""

import os
import uuid

import boto3
import pytest

from skyfan.errors import Transient
from skyfan.rpc.service_token import SECRET_VARIABLE, fetch_service_token
from tests.moto_server import moto_server, point_to

pytestmark = pytest.mark.slow


@pytest.fixture
def secret(monkeypatch, tmp_path):
    """The ARN of a secret that holds "the token"."""
    monkeypatch.setenv("SKYFAN_TOKEN", "")  # so that what is set in the test is taken away after it
    with moto_server() as url:
        point_to(url, monkeypatch, tmp_path / "none")
        yield boto3.client("secretsmanager").create_secret(Name=uuid.uuid4().hex, SecretString="the token")["ARN"]


def test_the_token_is_read_once(secret, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, secret)
    fetch_service_token()
    assert os.environ["SKYFAN_TOKEN"] == "the token"
    monkeypatch.setenv(SECRET_VARIABLE, f"{secret}-gone")
    fetch_service_token()  # it is there: nobody asks again


def test_a_secret_that_cannot_be_read_is_named(secret, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, f"{secret}-gone")
    with pytest.raises(Transient, match=r"SKYFAN_TOKEN_SECRET names .*-gone, which cannot be read"):
        fetch_service_token()


def test_where_no_secret_is_named_nothing_is_asked(monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    monkeypatch.delenv("SKYFAN_TOKEN", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fetch_service_token()
    assert "SKYFAN_TOKEN" not in os.environ
