"""`skyfan runs redrive` and `skyfan runs logs`: what they ask of Step Functions and CloudWatch."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from skyfan_compose.definition import Batch, SageMaker, Variables, render

from skyfan.backends.stepfunctions.access import open_access
from skyfan.backends.stepfunctions.executions import list_runs, redrive
from skyfan.backends.stepfunctions.run_logs import RunLogs
from skyfan.backends.stepfunctions.state_machine import Machine, find_machine
from skyfan.errors import BadInput
from tests.backends.stepfunctions.on_moto import make_function

pytestmark = pytest.mark.slow

GIVEN = {"dataset": "s3://skyfan/data/sky.pt", "output": "s3://skyfan/runs/first"}
RANKS = "/aws/batch/skyfan-ranks"
NOW = datetime(2026, 11, 26, 17, tzinfo=UTC)


@pytest.fixture
def access(moto: None) -> Any:
    return open_access("aws")


@pytest.fixture
def machine(access: Any) -> Machine:
    executor = make_function("skyfan-executor", memory_mb=3008)
    names = ("partitioner", "executor", "executor-torch", "aggregator")
    definition = render(
        Variables(*(executor.replace("skyfan-executor", f"skyfan-{name}") for name in names)),
        batch=Batch("queue", "job", "job", batch_log_group=RANKS),
        sagemaker=SageMaker("arn:aws:iam::123456789012:role/x", "image"),
    )
    role = "arn:aws:iam::123456789012:role/x"
    access.states.create_state_machine(name="skyfan-pipeline", definition=definition, roleArn=role)
    return find_machine(access)


class Ended:
    """Step Functions with one execution that ended so; it keeps what it is asked to do."""

    def __init__(self, status: str, given: dict[str, Any]) -> None:
        self.status, self.given = status, json.dumps(given)
        self.redriven: list[str] = []
        self.started: list[dict[str, str]] = []

    def describe_execution(self, executionArn: str) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        return {"name": "first-1", "status": self.status, "input": self.given, "startDate": NOW}

    def redrive_execution(self, executionArn: str) -> None:  # noqa: N803
        self.redriven.append(executionArn)

    def start_execution(self, **asked: str) -> dict[str, Any]:
        self.started.append(asked)
        return {"executionArn": f"arn:new:{asked['name']}", "startDate": NOW}


def again(access: Any, machine: Machine, status: str, given: dict[str, Any] = GIVEN) -> tuple[Any, Ended]:
    states = Ended(status, given)
    on = type(access)(access.on, access.region, access.endpoint, states, access.functions)
    return redrive(on, machine, "arn:old", NOW), states


def test_a_failed_run_starts_again_with_the_same_input(access: Any, machine: Machine) -> None:
    """A caught error was left, so that Step Functions' redrive would enter nothing but the Fail state again."""
    going_on, states = again(access, machine, "FAILED")
    assert states.redriven == []
    (asked,) = states.started
    assert asked == {"stateMachineArn": machine.arn, "name": going_on.name, "input": json.dumps(GIVEN)}
    assert going_on.name.startswith("first-1-again-20261126T170000-")
    assert len(going_on.name) <= 80


def test_started_again_it_keeps_what_the_failed_start_committed(access: Any, machine: Machine) -> None:
    _, states = again(access, machine, "FAILED", GIVEN | {"resume": False})
    assert json.loads(states.started[0]["input"]) == GIVEN | {"resume": True}


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT"])
def test_a_stopped_run_is_redriven_in_place(access: Any, machine: Machine, status: str) -> None:
    going_on, states = again(access, machine, status)
    assert (going_on.arn, states.redriven, states.started) == ("arn:old", ["arn:old"], [])


@pytest.mark.parametrize(("status", "sentence"), [("RUNNING", "is running"), ("SUCCEEDED", "nothing to take up")])
def test_a_run_that_needs_nothing_is_left_alone(access: Any, machine: Machine, status: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        again(access, machine, status)


def start(access: Any, machine: Machine, name: str, **more: str) -> str:
    given = json.dumps(GIVEN | more)
    return access.states.start_execution(stateMachineArn=machine.arn, name=name, input=given)["executionArn"]


def log(group: str, lines: list[Any]) -> None:
    """Lines in a log group, a second apart, as a handler and Lambda, or a task, write them."""
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="1")
    begin = datetime.now(UTC) + timedelta(seconds=1)
    events = [
        {
            "timestamp": int((begin + timedelta(seconds=number)).timestamp() * 1000),
            "message": line if isinstance(line, str) else json.dumps(line),
        }
        for number, line in enumerate(lines)
    ]
    logs.put_log_events(logGroupName=group, logStreamName="1", logEvents=events)


def rank_line(event: str, rank: int, execution: str = "first-1") -> dict[str, Any]:
    return {"event": event, "level": "info", "execution": execution, "rank": rank}


@pytest.fixture
def logged(access: Any, machine: Machine) -> str:
    arn = start(access, machine, "first-1")
    log(
        "/aws/lambda/skyfan-executor",
        [
            "START RequestId: 1 Version: $LATEST",
            rank_line("rank started", 0),
            rank_line("rank started", 3),
            rank_line("rank started", 3, "another-1"),
            {"event": "about first-1", "execution": "another-1", "rank": 3},
            rank_line("rank committed", 3),
        ],
    )
    log("/aws/lambda/skyfan-partitioner", [{"event": "planned", "execution": "first-1"}])
    for function in ("skyfan-executor-torch", "skyfan-aggregator"):
        log(f"/aws/lambda/{function}", ["START RequestId: 2"])
    return arn


def told(lines: Any) -> list[tuple[str, str]]:
    return [(line.function, line.fields["event"]) for line in lines]


def test_a_runs_lines_come_from_all_functions_and_no_other_run(access: Any, machine: Machine, logged: str) -> None:
    lines = list(RunLogs(access, machine, logged).lines())
    assert lines == sorted(lines, key=lambda line: line.at)
    assert sorted(told(lines)) == [
        ("skyfan-executor", "rank committed"),
        ("skyfan-executor", "rank started"),
        ("skyfan-executor", "rank started"),
        ("skyfan-partitioner", "planned"),
    ]


def test_a_ranks_lines_are_its_own(access: Any, machine: Machine, logged: str) -> None:
    lines = RunLogs(access, machine, logged, rank=3).lines()
    assert told(lines) == [("skyfan-executor", "rank started"), ("skyfan-executor", "rank committed")]


def test_following_tells_every_line_once_and_ends_with_the_run(access: Any, machine: Machine, logged: str) -> None:
    def sleep(_: float) -> None:
        access.states.stop_execution(executionArn=logged)

    lines = list(RunLogs(access, machine, logged, rank=3, sleep=sleep).follow())
    assert told(lines) == [("skyfan-executor", "rank started"), ("skyfan-executor", "rank committed")]
    assert list_runs(access, machine, 1)[0].status == "ABORTED"


@pytest.mark.parametrize(("compute", "group"), [("batch", RANKS), ("sagemaker", "/aws/sagemaker/ProcessingJobs")])
def test_ranks_on_batch_and_sagemaker_log_in_their_own_group(
    access: Any, machine: Machine, logged: str, compute: str, group: str
) -> None:
    arn = start(access, machine, "second-1", compute=compute)

    def task_line(event: str, rank: int, start: str = "second-1") -> dict[str, Any]:
        return {"event": event, "start": start, "rank": rank}

    assert not list(RunLogs(access, machine, arn).lines())  # no job has started: the group need not be there
    lines = [task_line("rank committed", 1), task_line("rank failed", 2), task_line("rank committed", 1, "another-1")]
    log(group, ["not ours", *lines])
    assert told(RunLogs(access, machine, arn).lines()) == [(compute, "rank committed"), (compute, "rank failed")]
    assert told(RunLogs(access, machine, arn, rank=2).lines()) == [(compute, "rank failed")]

    def sleep(_: float) -> None:
        access.states.stop_execution(executionArn=arn)

    assert len(list(RunLogs(access, machine, arn, sleep=sleep).follow())) == 2
    assert not list(RunLogs(access, machine, logged, rank=2).lines())  # a run on Lambda reads no other group


def test_localstack_has_its_logs_elsewhere(moto: None) -> None:
    with pytest.raises(BadInput, match="docker compose"):
        RunLogs(open_access("localstack"), Machine("arn", "name"), "arn")
