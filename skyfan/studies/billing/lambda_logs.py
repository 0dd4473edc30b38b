"""Billed durations as Lambda reports them: REPORT lines, from text or from CloudWatch Logs."""

import dataclasses
import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from skyfan.cost.bill import Invocation
from skyfan.errors import BadInput, DeadlineExceeded

if TYPE_CHECKING:
    from datetime import datetime

# Fields of the text format → their names in the JSON format.
_NAMES = {
    "Billed Duration": "billedDurationMs",
    "Init Duration": "initDurationMs",
    "Restore Duration": "restoreDurationMs",
    "Duration": "durationMs",
    "Memory Size": "memorySizeMB",
    "Max Memory Used": "maxMemoryUsedMB",
}
_FIELD = re.compile(rf"({'|'.join(_NAMES)}):\s*([\d.]+)\s*(?:ms|MB)")
_DEADLINE_S = 300.0
_REQUEST = re.compile(r"RequestId:\s*(\S+)")


@dataclasses.dataclass(frozen=True, slots=True)
class LambdaReport:
    """One REPORT line."""

    request_id: str
    duration_s: float
    billed_s: float
    init_s: float
    memory_mb: int
    max_memory_used_mb: int

    def invocation(self) -> Invocation:
        """The invocation as it is billed; `billed_s` includes the initialisation where Lambda bills it."""
        return Invocation(duration_s=self.billed_s)


def parse_report(line: str) -> LambdaReport | None:
    """Parses a REPORT line, plain or JSON; None for any other line.

    Lambda's two log formats carry the same numbers: text (`REPORT RequestId: … Duration: … ms …`) and JSON
    (`{"type": "platform.report", "record": {"requestId": …, "metrics": {"durationMs": …}}}`).

    Raises:
        BadInput: a REPORT line lacks duration or memory size.
    """
    if '"platform.report"' in line:
        return _parse_json(line)
    start = line.find("REPORT RequestId:")
    if start < 0:
        return None
    text = line[start:]
    request = _REQUEST.search(text)
    metrics = {_NAMES[name]: float(value) for name, value in _FIELD.findall(text)}
    return _report(line, request[1] if request else "", metrics)


def _parse_json(line: str) -> LambdaReport | None:
    try:
        event = json.loads(line[line.index("{") :])
    except ValueError as error:
        raise BadInput(f"log line {line[:80]!r}… names platform.report but is not JSON: {error}.") from error
    if event.get("type") != "platform.report":
        return None
    record = event.get("record", {})
    return _report(line, record.get("requestId", ""), record.get("metrics", {}))


def _report(line: str, request_id: str, metrics: dict[str, Any]) -> LambdaReport:
    billed_ms, memory_mb = metrics.get("billedDurationMs"), metrics.get("memorySizeMB")
    if billed_ms is None or memory_mb is None:
        raise BadInput(f"REPORT line {line[:80]!r}… has no billed duration or memory size.")
    return LambdaReport(
        request_id=request_id,
        duration_s=float(metrics.get("durationMs") or billed_ms) / 1000,
        billed_s=float(billed_ms) / 1000,
        init_s=float(metrics.get("initDurationMs") or 0.0) / 1000,
        memory_mb=int(memory_mb),
        max_memory_used_mb=int(metrics.get("maxMemoryUsedMB") or 0),
    )


def parse_reports(lines: Iterable[str]) -> list[LambdaReport]:
    """All REPORT lines among `lines`.

    Raises:
        BadInput: there is none.
    """
    reports = [report for line in lines if (report := parse_report(line))]
    if not reports:
        raise BadInput("no REPORT line found; give the log of a Lambda function, as text or JSON lines.")
    return reports


def fetch_reports(log_group: str, start: "datetime", end: "datetime", *, client: Any = None) -> list[LambdaReport]:
    """REPORT lines of one log group between two instants, all pages.

    Raises:
        BadInput: there is none.
        DeadlineExceeded: not all pages came within five minutes.
    """
    if client is None:
        import boto3

        client = boto3.client("logs")
    return parse_reports(_messages(client, log_group, start, end, time.monotonic() + _DEADLINE_S))


def _messages(client: Any, log_group: str, start: "datetime", end: "datetime", deadline: float) -> Iterator[str]:
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=log_group,
        startTime=int(start.timestamp() * 1000),
        endTime=int(end.timestamp() * 1000),
        filterPattern='?REPORT ?"platform.report"',
    )
    for page in pages:
        for event in page["events"]:
            yield event["message"]
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"log group {log_group} has more REPORT lines than could be read in time.")
