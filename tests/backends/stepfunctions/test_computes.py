"""Ranks on Batch: the deployed branches, state by state, the real handlers, the real entry of the containers.

Batch is the emulated one of infra/localstack. tests/containers/test_backends_agree.py has LocalStack itself, and
SageMaker.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from skyfan_compose.definition import Batch, Variables, render
from skyfan_localstack.schedulers.batch import Jobs
from skyfan_localstack.schedulers.server import serving

from skyfan import store
from skyfan.records import Summary
from tests.backends.stepfunctions.on_moto import moto_account, run_input
from tests.backends.stepfunctions.runtime_api import ROOT, worker
from tests.backends.stepfunctions.small_interpreter import Execution, TaskFailed, execute

pytestmark = pytest.mark.slow

SERVICES = ("partitioner", "executor", "aggregator")
BATCH = "arn:aws:states:::batch:submitJob.sync"
DEADLINE_S = 240
# The definition as infra/terraform renders it, by names in place of ARNs.
DEFINITION = json.loads(
    render(
        Variables("partitioner", "executor", "executor", "aggregator"),
        batch=Batch("cpu", "rank", "rank"),
    )
)
# infra/terraform/batch.tf has the same command and rules; tests/terraform/test_computes.py looks at it there.
COMMAND = ["-m", "services.executor.job", "Ref::output", "--start", "Ref::start", "--tasks", "Ref::tasks"]
RETRY = {
    "attempts": 3,
    "evaluateOnExit": [{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}],
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with moto_account(tmp_path_factory.mktemp("aws"), SKYFAN_COMPUTES="batch=2") as settings:
        yield settings


@pytest.fixture(scope="module")
def tasks(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable]]:
    """What the states call: the functions as on Lambda, and Batch."""
    folder = tmp_path_factory.mktemp("workers")
    with ExitStack() as stack:
        workers = {one: stack.enter_context(worker(one, folder, environment)) for one in SERVICES}
        batch = boto3.client("batch", endpoint_url=stack.enter_context(serving(Jobs(["cpu"], slots=2))))
        container = {
            "image": "skyfan-executor",
            "command": [sys.executable, *COMMAND],
            "environment": [{"name": "PYTHONPATH", "value": str(ROOT)}],
        }
        batch.register_job_definition(
            jobDefinitionName="rank", type="container", containerProperties=container, retryStrategy=RETRY
        )

        def function(name: str) -> Callable[[Mapping[str, Any]], Any]:
            def invoke(asked: Mapping[str, Any]) -> Any:
                answer = workers[name].invoke(asked["Payload"])
                if isinstance(answer, dict) and "errorType" in answer:
                    raise TaskFailed(answer["errorType"], answer["errorMessage"])
                return {"Payload": answer}

            return invoke

        yield {
            **{name: function(name) for name in SERVICES},
            BATCH: lambda asked: on_batch(batch, asked),
        }


def on_batch(batch: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """`submitJob.sync`: submits, waits, and fails with the job's description."""
    spelled = {name[0].lower() + name[1:]: value for name, value in asked.items()}
    if "arrayProperties" in spelled:
        spelled["arrayProperties"] = {"size": spelled["arrayProperties"]["Size"]}
    job = batch.submit_job(**spelled)["jobId"]
    deadline = time.monotonic() + DEADLINE_S
    while (found := batch.describe_jobs(jobs=[job])["jobs"][0])["status"] not in ("SUCCEEDED", "FAILED"):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    if found["status"] == "FAILED":
        raise TaskFailed("States.TaskFailed", json.dumps(found, default=str))
    return {"JobId": job}


@pytest.fixture
def given(
    environment: dict[str, str], sample: Any, small_model: Path, request: pytest.FixtureRequest
) -> dict[str, Any]:
    return run_input(sample, small_model, request.node.name.translate(str.maketrans("[]-", "___")))


def run(given: Mapping[str, Any], tasks: Mapping[str, Callable]) -> Execution:
    started = {
        "Id": "arn:aws:states:x",
        "Name": f"test.{time.monotonic_ns()}",
        "StartTime": datetime.now(UTC).isoformat(),
    }
    context = {
        "Execution": {**started, "Input": given},
        "State": {"RetryCount": 0, "EnteredTime": datetime.now(UTC).isoformat()},
    }
    return execute(DEFINITION, given, context, tasks)


def summary(output: str) -> Summary:
    return Summary.model_validate_json(store.read(f"{output}/summary.json"))


def test_one_task_is_a_plain_job_with_all_ranks(tasks, given):
    done = run(given | {"compute": "batch", "workers": 1}, tasks)
    assert (done.error, done.cause) == (None, "")
    assert "BatchJob" in done.entered
    assert done.output["samples_done"] == done.output["samples_total"] == 101
    starts = [one.uri for one in store.list(f"{given['output']}/starts") if "/start-" in one.uri]
    assert json.loads(store.read(starts[0]))["ranks"] == 3


def test_again_finds_nothing_to_do(tasks, given):
    run(given | {"compute": "batch"}, tasks)
    done = run(given | {"compute": "batch"}, tasks)
    assert done.error is None
    assert "NothingToDo" in done.entered
    assert summary(given["output"]).reused_ranks == 3


def test_what_is_not_deployed_is_refused_by_the_name_of_its_variable(tasks, given):
    done = run(given | {"compute": "batch-gpu"}, tasks)
    assert done.error == "SkyfanBadInput"
    assert "batch_gpu_instance_types" in done.cause
    assert not store.exists(f"{given['output']}/plan.json")


@pytest.mark.parametrize(("tolerated", "error"), [(0, "SkyfanIncomplete"), (50, None)])
def test_a_failed_rank_is_named_and_tolerated_or_not(tasks, given, sample, tolerated, error):
    """One of two files disappears between the plan and the ranks: its ranks fail for good, the array with them."""
    folder = f"{given['output']}-data"
    for name in ("a.pt", "b.pt"):
        store.copy_in(sample.path, f"{folder}/{name}")

    def without_b(asked: Mapping[str, Any]) -> Any:
        store.delete(f"{folder}/b.pt")
        return tasks[BATCH](asked)

    job = {"dataset": f"{folder}/", "compute": "batch", "tolerated_failure_percentage": tolerated}
    done = run(given | job, {**tasks, BATCH: without_b})
    assert done.error == error
    found = summary(given["output"])
    assert (found.completeness.ranks_present, found.completeness.ranks_planned) == (3, 6)
    assert sorted(found.failures) == [3, 4, 5]
    assert found.attempts == 6
    assert "b.pt" in found.failures[3]
    # Of the same run's next start, which computes 3 of the 6 ranks, again half of all are missing.
    store.copy_in(sample.path, f"{folder}/b.pt")
    assert run(given | job, {**tasks, BATCH: without_b}).error == error
