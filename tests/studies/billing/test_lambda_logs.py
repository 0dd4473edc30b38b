"""REPORT lines as Lambda writes them, from text, JSON and CloudWatch."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from skyfan.errors import BadInput
from skyfan.studies.billing.lambda_logs import fetch_reports, parse_report, parse_reports

PUBLISHED = Path(__file__).parents[2] / "data/published/aws/results/lambda_report_lines.txt"
TEXT = (
    "REPORT RequestId: 8f5-1 Duration: 123.40 ms Billed Duration: 624 ms Memory Size: 2048 MB "
    "Max Memory Used: 512 MB Init Duration: 500.10 ms"
)
STRUCTURED = json.dumps(
    {
        "time": "2026-01-01T00:00:00Z",
        "type": "platform.report",
        "record": {
            "requestId": "8f5-1",
            "metrics": {
                "durationMs": 123.4,
                "billedDurationMs": 624,
                "memorySizeMB": 2048,
                "maxMemoryUsedMB": 512,
                "initDurationMs": 500.1,
            },
        },
    }
)


def test_published_lines():
    reports = parse_reports(PUBLISHED.read_text().splitlines())
    assert len(reports) == 9
    first = reports[0]
    assert (first.billed_s, first.memory_mb, first.max_memory_used_mb) == (40.908, 10_240, 5948)
    assert first.duration_s + first.init_s == pytest.approx(first.billed_s, abs=0.001)
    assert first.invocation().billed_s == 40.908


@pytest.mark.parametrize("line", [TEXT, f"2026-01-01 x - {TEXT}", STRUCTURED, f"2026-01-01T00:00:00Z {STRUCTURED}"])
def test_text_and_json_say_the_same(line):
    report = parse_report(line)
    assert report is not None
    assert (report.request_id, report.billed_s) == ("8f5-1", 0.624)
    assert report.duration_s == pytest.approx(0.1234)
    assert (report.init_s, report.memory_mb, report.max_memory_used_mb) == (0.5001, 2048, 512)


def test_other_lines_are_not_reports_and_none_at_all_is_an_error():
    assert parse_report("START RequestId: 1 Version: $LATEST") is None
    with pytest.raises(BadInput, match="no REPORT line"):
        parse_reports(["hello", "REPORT of the week"])


def test_a_cut_line_is_named():
    with pytest.raises(BadInput, match="no billed duration"):
        parse_report("REPORT RequestId: 1 Duration: 3 ms")
    with pytest.raises(BadInput, match="not JSON"):
        parse_report('{"type": "platform.report", "rec')


@mock_aws
def test_cloudwatch_pages(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("logs", region_name="us-east-1")
    client.create_log_group(logGroupName="/aws/lambda/skyfan-executor")
    now_ms = int(time.time() * 1000)
    for stream in range(3):
        name = f"s{stream}"
        client.create_log_stream(logGroupName="/aws/lambda/skyfan-executor", logStreamName=name)
        messages = [{"timestamp": now_ms + n, "message": TEXT if n % 2 else "START"} for n in range(100)]
        client.put_log_events(logGroupName="/aws/lambda/skyfan-executor", logStreamName=name, logEvents=messages)
    start = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(minutes=1)
    reports = fetch_reports("/aws/lambda/skyfan-executor", start, start + timedelta(minutes=5), client=client)
    assert len(reports) == 150
