"""What a rank records of itself."""

import os
import socket

import pytest

from skyfan.stages.measure import computed_here, lambda_function
from tests.report.runs import make_record


def test_a_rank_on_lambda_records_its_function(monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/26/[$LATEST]abc")
    found = lambda_function()
    assert (found["memory_mb"], found["region"], found["log_stream"]) == (3008, "eu-west-1", "2026/11/26/[$LATEST]abc")
    assert found["architecture"] in ("x86_64", "arm64")


@pytest.mark.parametrize("region", [None, "eu-west-1"])
def test_a_rank_elsewhere_records_none(monkeypatch, region):
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", raising=False)
    if region:
        monkeypatch.setenv("AWS_REGION", region)  # of a user's own configuration: says nothing of the rank
    assert lambda_function() == {}


def test_execution_environments_that_share_host_and_process_number_are_told_apart(monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008")
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "stream-1")
    same = {"host": socket.gethostname(), "pid": os.getpid()}
    assert computed_here(make_record(0, log_stream="stream-1", **same))
    assert not computed_here(make_record(0, log_stream="stream-2", **same))
    assert not computed_here(make_record(0, log_stream="stream-1", **same | {"pid": os.getpid() + 1}))


def test_elsewhere_the_host_tells_them_apart(monkeypatch):
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", raising=False)
    assert computed_here(make_record(0, host=socket.gethostname(), pid=os.getpid()))
    assert not computed_here(make_record(0, host="another", pid=os.getpid()))
