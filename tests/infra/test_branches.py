"""The branches of Batch and SageMaker: merged in as Terraform merges them, bounded, and read from what is there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from skyfan_compose.definition import Batch, SageMaker, Variables, render

from skyfan.aws_limits import BATCH_MIN_ARRAY_SIZE
from skyfan.job import Job
from skyfan.serving import lambda_events as events
from skyfan.stages.messages import ModelFile
from tests.backends.stepfunctions.small_interpreter import holds
from tests.infra.test_lambda_events import resolve

VARIABLES = Variables("p", "e", "t", "a")
BATCH, SAGEMAKER = Batch("queue", "rank", "rank-torch", "queue-gpu", "rank-gpu"), SageMaker("role", "image")
TASKS = ("BatchJob", "BatchArray", "ProcessingJob")


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    return json.loads(render(VARIABLES, batch=BATCH, sagemaker=SAGEMAKER))


def test_without_them_the_machine_is_the_file_itself():
    text = render(VARIABLES)
    assert ".sync" not in text
    assert "WhichCompute" not in text


def test_every_compute_of_a_job_has_a_way(definition):
    rules = [rule for choice in definition["States"]["WhichCompute"]["Choices"] for rule in choice.get("And", [choice])]
    chosen = {rule["StringEquals"] for rule in rules if rule["Variable"] == "$.prepared.job.compute"}
    known = set(Job.model_fields["compute"].annotation.__args__)
    assert chosen | {"lambda"} == known
    assert definition["States"]["WhichCompute"]["Default"] == "WhichExecutor"


@pytest.mark.parametrize(
    ("engine", "job"),
    [("openvino", "rank"), ("torch", "rank-torch"), ("onnxruntime", "rank-torch"), ("openvino + torch", "rank-torch")],
)
def test_tasks_on_fargate_run_the_image_that_has_their_engine(definition, engine, job):
    states, data = definition["States"], {"prepared": {"job": {"compute": "batch"}}, "converted": {"engine": engine}}
    chosen = next(rule["Next"] for rule in states["WhichCompute"]["Choices"] if holds(rule, data, {}))
    assert states[chosen]["Result"]["definition"] == job


def test_one_alone_is_whole_too():
    for parts in ({"batch": BATCH}, {"sagemaker": SAGEMAKER}):
        states = json.loads(render(VARIABLES, **parts))["States"]
        assert states["Convert"]["Next"] == "WhichCompute"
        assert all(choice["Next"] in states for choice in states["WhichCompute"]["Choices"])


@pytest.mark.parametrize("name", TASKS)
def test_a_job_is_waited_for_and_what_it_leaves_is_aggregated(definition, name):
    task = definition["States"][name]
    assert task["Resource"].endswith(".sync")
    assert 0 < task["TimeoutSeconds"] < definition["TimeoutSeconds"]
    assert task["Catch"] == [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.map", "Next": "Aggregate"}]
    assert task["Next"] == "Aggregate"
    for retrier in task["Retry"]:
        # The job's own failure is not tried again here: Batch has done that, task by task.
        assert not set(retrier["ErrorEquals"]) & {"States.ALL", "States.TaskFailed", "States.Timeout"}
        assert retrier["MaxAttempts"] <= 60
        assert retrier["BackoffRate"] > 1
        assert retrier["JitterStrategy"] == "FULL"


def test_an_array_is_never_shorter_than_aws_allows(definition):
    (rule,) = definition["States"]["IsItOneTask"]["Choices"]
    assert (rule["NumericEquals"], rule["Next"]) == (BATCH_MIN_ARRAY_SIZE - 1, "BatchJob")
    assert "ArrayProperties" not in definition["States"]["BatchJob"]["Parameters"]
    assert definition["States"]["BatchArray"]["Parameters"]["ArrayProperties"] == {"Size.$": "$.plan.array.tasks"}


def test_what_the_branches_read_is_there(definition):
    kinds = {"prepared": events.PrepareResult, "converted": ModelFile, "execution": events.Execution}
    kinds |= {"array": events.ArrayJob, "plan": events.PlanResult}
    for name in (*TASKS, "WhichCompute", "IsItOneTask"):
        text = json.dumps(definition["States"][name]).replace("$.plan.array.", "$.array.")
        for part in text.split("$.")[1:]:
            path = part.replace(",", '"').replace(")", '"').split('"')[0]
            root, *keys = path.split(".")
            if root in kinds:
                assert resolve(kinds[root], keys), path


def test_statelint_finds_nothing_but_what_the_public_specification_lacks(tmp_path: Path):
    statelint = Path(sys.executable).parent / "statelint"
    if not statelint.exists():
        pytest.skip("statelint is not installed")
    file = tmp_path / "pipeline.asl.json"
    file.write_text(render(VARIABLES, batch=BATCH, sagemaker=SAGEMAKER))
    found = subprocess.run([statelint, file], capture_output=True, text=True, timeout=60)
    findings = (found.stdout + found.stderr).splitlines()[1:]
    assert [line for line in findings if "Infer" not in line] == [], findings
