"""How many tasks of Batch or SageMaker a run asks for, under which names, and what a deployment refuses."""

import re
from collections.abc import Callable

import pytest

from skyfan.errors import BadInput
from skyfan.job import Job
from skyfan.serving.array_jobs import array_job, array_limit


def job(**fields: object) -> Job:
    return Job.model_validate({"dataset": "s3://b/sky.pt", "output": "s3://b/run", "compute": "batch", **fields})


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda computes: monkeypatch.setenv("SKYFAN_COMPUTES", computes)


@pytest.mark.parametrize(
    ("ranks", "workers", "deployment", "tasks"),
    [
        (1, None, 64, 1),  # a plain job
        (24, None, 64, 24),  # a rank a task
        (24, 4, 64, 4),  # as many as asked for
        (1000, 500, 64, 64),  # no more than are deployed
        (1_000_000, None, 10_000, 10_000),  # the longest array; a hundred ranks a task
    ],
)
def test_a_run_has_as_many_tasks_as_it_has_workers_and_ranks(ranks, workers, deployment, tasks):
    assert array_job(job(workers=workers), "first", "0" * 16, ranks, deployment, 1.0).tasks == tasks


@pytest.mark.parametrize(
    ("deployment", "compute", "most"),
    [
        ("batch=64,batch-gpu=4", "batch", 64),
        ("batch=64, batch-gpu=4", "batch-gpu", 4),
        ("batch=50000", "batch", 10_000),  # the longest array
        ("sagemaker=400", "sagemaker", 100),  # the most instances of one job
    ],
)
def test_the_deployment_says_how_many_run_at_once(deployed, deployment, compute, most):
    deployed(deployment)
    assert array_limit(job(compute=compute)) == most


def test_lambda_needs_nothing_of_it(deployed):
    deployed("")
    assert array_limit(job(compute="lambda")) is None


@pytest.mark.parametrize(
    ("deployment", "fields", "says"),
    [
        ("", {}, "enable_batch = true"),
        ("batch=64", {"compute": "batch-gpu"}, "batch_gpu_instance_types"),
        ("batch=64", {"compute": "sagemaker"}, "enable_sagemaker = true"),
        ("batch=64", {"collectives": True}, "collectives needs all ranks at once"),
        ("sagemaker=4", {"compute": "sagemaker", "output": "s3://b/" + "x" * 250}, "output has 257 characters"),
    ],
)
def test_what_cannot_be_computed_there_is_refused(deployed, deployment, fields, says):
    deployed(deployment)
    with pytest.raises(BadInput, match=says):
        array_limit(job(**fields))


@pytest.mark.parametrize("execution", ["first-0b1c", "of the team.2", "Δ", "x" * 80, "-", "a" * 79 + "-"])
def test_names_are_what_aws_and_the_run_folder_take(execution):
    made = array_job(job(), execution, "0" * 16, 3, 64, 1.0)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", made.start)
    # SageMaker's, with the UUID that the state machine adds.
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", f"{made.job_name}-0b1c2d3e-0000-4000-8000-000000000000")


def test_executions_whose_names_differ_in_what_is_not_allowed_have_starts_of_their_own():
    starts = {array_job(job(), name, "0" * 16, 3, 64, 1.0).start for name in ("a.b", "a b", "a-b")}
    assert len(starts) == 3
    assert "a-b" in starts
