"""What a run's functions and its tasks on Batch or SageMaker logged, from CloudWatch: of all ranks, or of one.

"FilterLogEvents", https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html (read
2026-11). Every line that a function writes names the execution and the rank that it worked for (`make_handler`), and
every line of a task the start, which has the execution's name (`skyfan.serving.rank_job`); lines that Lambda itself
adds name neither and are left out.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from skyfan.backends.stepfunctions.access import LOCALSTACK, Access, aws_errors
from skyfan.backends.stepfunctions.executions import RunListed, find_compute, find_run
from skyfan.backends.stepfunctions.follow import FOLLOW_DEADLINE_S
from skyfan.backends.stepfunctions.state_machine import Machine
from skyfan.errors import BadInput, DeadlineExceeded
from skyfan.store import NotFound

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

# A line can be read some seconds after it was written.
SETTLE_S = 5.0
_LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One structured line: when, of which function or compute, and its fields as they were logged."""

    at: datetime
    function: str
    fields: dict[str, Any]


@dataclass
class RunLogs:
    """The lines of one execution; `rank` narrows them to one rank's."""

    access: Access
    machine: Machine
    arn: str
    rank: int | None = None
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.access.on == LOCALSTACK:
            raise BadInput(
                "LocalStack's functions log in their containers: docker compose --project-name skyfan-localstack logs "
                "lambda-executor lambda-executor-torch lambda-partitioner lambda-aggregator schedulers"
            )
        import boto3

        self._client: CloudWatchLogsClient = boto3.client("logs", region_name=self.access.region)
        self._seen: set[str] = set()
        self._compute = ""

    def lines(self) -> Iterator[LogLine]:
        """Those that are there now, in order of time.

        Raises:
            BadInput: there is no such execution.
            LocationError: the logs may not be read.
        """
        yield from self._new_lines(find_run(self.access, self.arn))

    def follow(self) -> Iterator[LogLine]:
        """Those that are there, and those that come, until the execution has ended.

        Raises:
            DeadlineExceeded: it runs longer than a pipeline may.
        """
        deadline_s = time.monotonic() + FOLLOW_DEADLINE_S
        while time.monotonic() < deadline_s:
            run = find_run(self.access, self.arn)
            yield from self._new_lines(run)
            if run.ended_at is not None:
                self.sleep(SETTLE_S)
                yield from self._new_lines(run)
                return
            self.sleep(_LOOK_EVERY_S)
        raise DeadlineExceeded(f"execution {self.arn} runs for {FOLLOW_DEADLINE_S / 3600:.0f} h already.")

    def _new_lines(self, run: RunListed) -> list[LogLine]:
        found = [
            line
            for function in self.machine.functions
            for line in self._of_group(function, f"/aws/lambda/{function}", run)
        ]
        compute = self._compute = self._compute or find_compute(self.access, self.arn)
        if group := self.machine.computes.get(compute):
            # SageMaker makes its group with the first job.
            with suppress(NotFound):
                found += self._of_group(compute, group, run)
        return sorted(found, key=lambda line: line.at)

    def _of_group(self, source: str, group: str, run: RunListed) -> Iterator[LogLine]:
        reading = f"read the log group {group}"
        missing = NotFound(f"could not {reading}: it is not there.")
        with aws_errors(self.access.on, reading, not_there=missing):
            pages = self._client.get_paginator("filter_log_events").paginate(
                logGroupName=group,
                startTime=int(run.started_at.timestamp() * 1000),
                filterPattern=f'"{run.name}"',
            )
            for event in (event for page in pages for event in page["events"]):
                fields = _fields(event["message"])
                if event["eventId"] in self._seen or not self._is_asked_for(fields, run.name):
                    continue
                self._seen.add(event["eventId"])
                yield LogLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), source, fields)

    def _is_asked_for(self, fields: dict[str, Any], execution: str) -> bool:
        of_rank = self.rank is None or fields.get("rank") == self.rank
        return execution in (fields.get("execution"), fields.get("start")) and of_rank


def _fields(message: str) -> dict[str, Any]:
    """The fields of a structured line; none of another one."""
    try:
        content = json.loads(message)
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
