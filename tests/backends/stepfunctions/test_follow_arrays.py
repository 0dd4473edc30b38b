"""A run whose ranks Batch computes, followed by what they commit; and what a state machine says it can compute with."""

import boto3
import pytest
from skyfan_compose.definition import Batch, Variables, render

import skyfan
from skyfan import store
from skyfan.backends.base import BackendSettings
from skyfan.backends.registry import create_backend
from skyfan.backends.stepfunctions.access import open_access
from skyfan.backends.stepfunctions.follow import Follower
from skyfan.backends.stepfunctions.state_machine import find_machine
from skyfan.errors import BadInput
from skyfan.events import MapProgress, PhaseStarted, Planned
from skyfan.job import Job
from skyfan.runs.folder import RunFolder
from skyfan.serving.array_jobs import array_job
from skyfan.stages.messages import ModelFile, PlanRequest, PreparedModel
from skyfan.stages.plan import plan
from skyfan.stages.starts import write_start
from tests.backends.stepfunctions.on_moto import BUCKET, make_function

ROLE = "arn:aws:iam::123456789012:role/x"


def make_machine(batch: Batch | None = None) -> str:
    executor = make_function("skyfan-executor", memory_mb=3008)
    definition = render(Variables(executor, executor, executor, executor), batch=batch)
    states = boto3.client("stepfunctions")
    return states.create_state_machine(name="skyfan-pipeline", definition=definition, roleArn=ROLE)["stateMachineArn"]


def test_what_the_machine_cannot_compute_with_is_refused_before_it_is_started(moto):
    arn = make_machine()
    job = Job(dataset=f"s3://{BUCKET}/sky.pt", output=f"s3://{BUCKET}/run", compute="batch")
    with pytest.raises(BadInput, match="enable_batch = true"):
        skyfan.run(job, on=create_backend("localstack", BackendSettings()), progress=False)
    assert boto3.client("stepfunctions").list_executions(stateMachineArn=arn)["executions"] == []


def test_a_machine_with_the_branch_can(moto):
    make_machine(Batch("cpu", "rank", "rank"))
    assert set(find_machine(open_access("localstack")).computes) == {"batch", "batch-gpu"}


@pytest.mark.parametrize("where", ["process", "local"])
def test_elsewhere_there_is_no_choice(where):
    with pytest.raises(BadInput, match="--compute batch is for --on aws and localstack"):
        skyfan.run(Job(dataset="sky.pt", compute="batch"), on=where, progress=False)


# The second is the name of an execution whose output is called "_run".
@pytest.mark.parametrize("execution", ["first-0b1c", "-run-0b1c"])
def test_progress_is_what_is_committed(moto, sample, execution):
    """Three looks: before the array, with nothing committed, and with one of three ranks."""
    access = open_access("localstack")
    made = access.states.start_execution(stateMachineArn=make_machine(), name=execution, input="{}")["executionArn"]
    store.copy_in(sample.path, f"s3://{BUCKET}/sky.pt")
    job = Job(dataset=f"s3://{BUCKET}/sky.pt", output=f"s3://{BUCKET}/run", partition_size=40 * 20_504 + 2048)
    folder, heard = RunFolder(job.output), []
    looks = 0

    def look_again(_pause_s: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            model = PreparedModel(uri="demo", digest="0" * 64, format="x", parameters=1, needs_conversion=False)
            reply = plan(PlanRequest(job=job, model=model))
            file = ModelFile(uri="demo", digest="0" * 64, source_digest="0" * 64, engine="openvino")
            start = array_job(job, execution, reply.run_id, ranks=3, most_tasks=64, plan_s=1.0).start
            write_start(job, reply.run_id, file, target="localstack", name=start)
        if looks == 2:
            store.put(folder.predictions_uri(1), bytes(1000))
        if looks == 3:
            access.states.stop_execution(executionArn=made)

    follower = Follower(access, made, job.output, None, heard.append, sleep=look_again, compute="batch")
    assert follower.to_end()["status"] == "ABORTED"
    phases = [event.name for event in heard if isinstance(event, PhaseStarted)]
    assert phases == ["preparing", "inferring"]
    assert len(next(event for event in heard if isinstance(event, Planned)).plan.ranks) == 3
    counts = [(e.pending, e.succeeded, e.cost_usd) for e in heard if isinstance(e, MapProgress)]
    assert counts == [(3, 0, None), (2, 1, None)]
