"""What `skyfan run --on localstack|aws` asks of Step Functions and makes of the answers, without Docker."""

import json
import os
import re
from datetime import UTC, datetime

import boto3
import pytest
from skyfan_compose.definition import Variables, render

import skyfan
from skyfan import store
from skyfan.backends.stepfunctions.access import open_access, prepare_environment
from skyfan.backends.stepfunctions.backend import console_url
from skyfan.backends.stepfunctions.execution_input import execution_name, job_in_s3
from skyfan.backends.stepfunctions.follow import UNREACHABLE_DEADLINE_S, Follower
from skyfan.backends.stepfunctions.meter import CostMeter
from skyfan.backends.stepfunctions.outcome import summary_of
from skyfan.backends.stepfunctions.state_machine import Machine, find_machine
from skyfan.cost import Invocation, Usage, bill, load_prices, pipeline_transitions
from skyfan.errors import BadInput, DatasetError, Interrupted, LocationError, SkyfanError, Transient
from skyfan.events import MapProgress, PhaseStarted
from skyfan.job import Job
from skyfan.reference_payload import parse_execution_input
from skyfan.stages.messages import PlanRequest, PreparedModel
from skyfan.stages.plan import plan
from tests.backends.stepfunctions.on_moto import BUCKET, SETTINGS, make_function

pytestmark = pytest.mark.slow

ARN = "arn:aws:states:eu-west-1:123456789012:execution:skyfan-pipeline:demo-1"


def job(**changes):
    return Job.model_validate({"dataset": f"s3://{BUCKET}/sky.pt", "output": f"s3://{BUCKET}/runs/demo/"} | changes)


def test_localstack_needs_no_environment_variable(bare):
    prepare_environment("localstack")
    assert {name: os.environ[name] for name in SETTINGS} == dict(
        zip(SETTINGS, ("http://localhost:4566", "us-east-1", "us-east-1", "test", "test"), strict=True)
    )


def test_what_the_user_has_set_stays(bare):
    bare.setenv("AWS_ENDPOINT_URL", "http://elsewhere:1")
    bare.setenv("AWS_REGION", "eu-west-1")
    prepare_environment("localstack")
    assert (os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_DEFAULT_REGION"]) == ("http://elsewhere:1", "eu-west-1")


def test_what_localstack_needed_is_gone_when_the_process_goes_to_aws(bare):
    bare.setenv("AWS_REGION", "eu-west-1")
    prepare_environment("localstack")
    bare.setenv("AWS_ACCESS_KEY_ID", "mine")  # set since, so it stays
    prepare_environment("aws")
    assert {name: os.environ[name] for name in SETTINGS if name in os.environ} == {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "mine",
    }


def test_aws_is_left_to_boto3(bare):
    prepare_environment("aws")
    assert not [name for name in SETTINGS if name in os.environ]
    with pytest.raises(LocationError, match="set AWS_REGION"):
        open_access("aws")
    bare.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(LocationError, match="no AWS credentials were found; set AWS_PROFILE"):
        find_machine(open_access("aws"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": "data/sky.pt"}, "`skyfan data upload data/sky.pt s3://BUCKET/KEY`"),
        ({"calibrate": "data/known.pt"}, "--calibrate data/known.pt is not in S3"),
        ({"output": "runs/demo"}, "--output runs/demo is not in S3"),
        ({"tolerated_failure_percentage": 2.5}, "--tolerate-failures is 2.5"),
        ({"model": "nowhere.pt"}, "--model nowhere.pt is not a file"),
    ],
)
def test_what_functions_cannot_reach_is_refused(moto, changes, sentence):
    with pytest.raises(BadInput, match=re.escape(sentence)):
        job_in_s3(job(**changes), "aws")


def test_the_request_means_the_job(moto):
    asked = job(
        partition_size="file",
        world_size=7,
        file_limit=9,
        workers=5,
        tolerated_failure_percentage=20,
        resume=False,
        batch_size=64,
        z_column=0,
    )
    understood = parse_execution_input(json.loads(job_in_s3(asked, "localstack").to_json()))
    assert understood == asked.model_copy(update={"output": asked.output.rstrip("/")})


def test_a_local_model_is_uploaded_once_under_its_content(moto, tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    uri = job_in_s3(job(model=str(path)), "aws").model
    assert re.fullmatch(rf"s3://{BUCKET}/models/[0-9a-f]{{64}}/mine\.pt", uri)
    written = boto3.client("s3").head_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
    assert job_in_s3(job(model=path.as_uri()), "aws").model == uri
    again = boto3.client("s3").head_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
    assert again["LastModified"] == written["LastModified"]
    path.write_bytes(b"other weights")
    other = job_in_s3(job(model=str(path)), "aws").model
    assert (store.read(uri), store.read(other)) == (b"weights", b"other weights")
    assert job_in_s3(job(), "aws").model == "demo"  # the packaged one is in the executor's image


def test_names_of_executions_are_unique_and_allowed(moto):
    request = job_in_s3(job(output=f"s3://{BUCKET}/Δ runs, many/{'x' * 100}"), "aws")
    at = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
    names = {execution_name(request, at) for _ in range(20)}
    assert len(names) > 1
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,80}", name) and "20261122T063000" in name for name in names)


def test_a_state_machine_is_found_by_name_or_arn_and_its_absence_says_how_to_make_one(moto):
    access = open_access("localstack")
    executor = make_function("skyfan-executor", memory_mb=3008)
    definition = render(Variables(executor.replace("executor", "partitioner"), executor, executor, executor))
    role = "arn:aws:iam::123456789012:role/x"
    for number in range(110):  # more than a page
        access.states.create_state_machine(name=f"other-{number}", definition=definition, roleArn=role)
    made = access.states.create_state_machine(name="skyfan-pipeline", definition=definition, roleArn=role)
    found = find_machine(access)
    functions = ("skyfan-executor", "skyfan-partitioner")
    assert found == Machine(made["stateMachineArn"], "skyfan-pipeline", found.executor, 3008, "arm64", functions)
    assert found.executor.endswith("executor")
    assert find_machine(access, found.arn) == found
    for name in ("nowhere", made["stateMachineArn"] + "x"):
        with pytest.raises(BadInput, match=r"there is no state machine .*`make localstack-up` makes it"):
            find_machine(access, name)


def test_the_front_door_names_the_state_machine(moto):
    with pytest.raises(BadInput, match="there is no state machine mine"):
        skyfan.run(job(), on="localstack", progress=False, state_machine="mine")


def test_somebody_elses_state_machine_is_refused(moto):
    access = open_access("localstack")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    access.states.create_state_machine(name="b", definition=definition, roleArn="arn:aws:iam::123456789012:role/x")
    with pytest.raises(BadInput, match="not Skyfan's pipeline"):
        find_machine(access, "b")


@pytest.mark.slow
def test_localstack_that_is_not_up_says_how_to_start_it(bare):
    bare.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bare.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Transient, match="`make localstack-up` starts LocalStack"):
        find_machine(open_access("localstack"))


def ended(status, **fields):
    return {"status": status, **fields}


@pytest.mark.parametrize(
    ("found", "kind", "sentence"),
    [
        (
            ended("FAILED", error="SkyfanDatasetError", cause=json.dumps({"errorMessage": "sky.pt is empty"})),
            DatasetError,
            "sky.pt is empty",
        ),
        (ended("FAILED", error="States.Runtime", cause="no such path"), SkyfanError, "States.Runtime: no such path"),
        (ended("ABORTED"), Interrupted, "the same command resumes"),
        (ended("TIMED_OUT"), Transient, "time limit"),
    ],
)
def test_how_an_execution_ended_becomes_the_error_that_it_was(found, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)) as caught:
        summary_of(found, "memory://nowhere")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("partition", "host"),
    [
        ("aws", "eu-west-1.console.aws.amazon.com"),
        ("aws-cn", "eu-west-1.console.amazonaws.cn"),
        ("aws-us-gov", "eu-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_console_link(partition, host):
    arn = ARN.replace("arn:aws:", f"arn:{partition}:")
    assert console_url(arn) == f"https://{host}/states/home?region=eu-west-1#/v2/executions/details/{arn}"


def test_cost_so_far_is_rank_seconds_at_list_prices():
    prices = load_prices()
    meter = CostMeter(Machine("arn", "name", memory_mb=2048), prices, "us-east-1")
    meter.cost_usd(running=4, ended=0, now_s=100.0)
    cost_usd = meter.cost_usd(running=4, ended=4, now_s=110.0)  # 4 ranks for 10 s
    usage = Usage([Invocation(5.0, count=8)], memory_mb=2048, transitions=pipeline_transitions(8))
    assert cost_usd == pytest.approx(bill(usage, prices).total_usd)
    assert cost_usd > 40 * 2 * prices.region("us-east-1").lambda_gb_s["x86_64"]


class _Recorded:
    """Step Functions as looks at a run found it: the map has not read its items, is at work, is done, and so on."""

    looks = ((0, 0, "RUNNING"), (1, 0, "RUNNING"), (1, 1, "SUCCEEDED"), (1, 1, "SUCCEEDED"), (1, 1, "SUCCEEDED"))

    def __init__(self):
        self._left = list(self.looks)

    def describe_execution(self, executionArn):  # noqa: N803 - boto3's own name
        return {"status": "RUNNING" if len(self._left) > 1 else "SUCCEEDED"}

    def list_map_runs(self, executionArn):  # noqa: N803
        return {"mapRuns": [{"mapRunArn": "arn"}]}

    def describe_map_run(self, mapRunArn):  # noqa: N803
        total, succeeded, status = self._left.pop(0)
        counts = dict.fromkeys(("failed", "timedOut", "aborted", "pending"), 0)
        return {
            "itemCounts": counts | {"total": total, "running": total - succeeded, "succeeded": succeeded},
            "status": status,
        }


def test_each_phase_is_told_once_and_no_counts_before_there_are_items(moto, sample, tmp_path):
    output = str(tmp_path / "run")
    model = PreparedModel(uri="demo", digest="0" * 64, format="safetensors", parameters=1, needs_conversion=False)
    plan(PlanRequest(job=job(dataset=str(sample.path), output=output), model=model))
    access = open_access("localstack")
    recorded = type(access)(access.on, access.region, access.endpoint, _Recorded(), access.functions)
    meter, events = CostMeter(Machine("arn", "name"), load_prices(), "us-east-1"), []
    Follower(recorded, ARN, output, meter, events.append, sleep=lambda _: None).to_end()
    planned, *others = events
    assert planned.plan.samples == len(sample.redshift)
    told = [(event.running, event.succeeded) if isinstance(event, MapProgress) else event for event in others]
    assert told == [PhaseStarted("inferring"), (1, 0), (0, 1), PhaseStarted("aggregating")]


class _Unplugged:
    """Step Functions out of reach."""

    def describe_execution(self, executionArn):  # noqa: N803 - boto3's own name
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url="https://states")


def test_following_outlasts_a_lost_network_but_not_for_ever(moto):
    access = open_access("localstack")
    unplugged = type(access)(access.on, access.region, access.endpoint, _Unplugged(), access.functions)
    now, slept, events = [0.0], [], []

    def sleep(pause_s):
        slept.append(pause_s)
        now[0] += pause_s

    meter = CostMeter(Machine("arn", "name"), load_prices(), "us-east-1")
    follower = Follower(unplugged, ARN, "memory://x", meter, events.append, clock=lambda: now[0], sleep=sleep)
    with pytest.raises(Transient, match=f"Execution {ARN} goes on without us"):
        follower.to_end()
    assert UNREACHABLE_DEADLINE_S < now[0] < UNREACHABLE_DEADLINE_S + 10
    assert max(slept) <= 4.0
    assert not [event for event in events if isinstance(event, (PhaseStarted, MapProgress))]
