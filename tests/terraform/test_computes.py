"""Batch and SageMaker beside Lambda, applied on moto: who may do what, and what the state machine then looks like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.moto_server import moto_process

from .conftest import ACCOUNT, MOTO_SETTINGS, NewWorkspace, for_moto
from .test_definition import defects
from .test_iam import BUCKET, DATA, MODEL, REGION, RUN, SURVEY, policies
from .tf_harness.iam import actions, is_allowed, too_wide
from .tf_harness.workspace import Workspace

BATCH = f"arn:aws:batch:{REGION}:{ACCOUNT}"
SAGEMAKER = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsFor"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/skyfan-{REGION}"
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"
ECR = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository"

# who, action, resource, allowed
TABLE: list[tuple[str, str, str, bool]] = [
    # A rank reads data and models and writes its run, and does nothing else.
    *((who, "s3:GetObject", what, True) for who in ("rank", "sagemaker") for what in (DATA, MODEL, RUN, SURVEY)),
    *((who, "s3:PutObject", RUN, True) for who in ("rank", "sagemaker")),
    *((who, "s3:PutObject", what, False) for who in ("rank", "sagemaker") for what in (DATA, MODEL, SURVEY)),
    *((who, "s3:DeleteObject", RUN, False) for who in ("rank", "sagemaker")),
    *((who, "s3:ListBucket", BUCKET, True) for who in ("rank", "sagemaker")),
    ("rank", "s3:GetObject", "arn:aws:s3:::somebody-elses/1.pt", False),
    ("rank", "ecr:BatchGetImage", f"{ECR}/skyfan-executor", False),
    ("rank", "batch:SubmitJob", f"{BATCH}:job-queue/skyfan-cpu", False),
    # What starts a task pulls its image and writes its log, and sees no data.
    ("batch", "ecr:BatchGetImage", f"{ECR}/skyfan-executor", True),
    ("batch", "ecr:BatchGetImage", f"{ECR}/skyfan-executor-gpu", True),
    ("batch", "ecr:BatchGetImage", f"{ECR}/skyfan-partitioner", False),
    ("batch", "logs:PutLogEvents", f"{LOGS}:/aws/batch/skyfan-ranks:log-stream:1", True),
    ("batch", "logs:PutLogEvents", f"{LOGS}:/aws/lambda/skyfan-executor:log-stream:1", False),
    ("batch", "s3:GetObject", DATA, False),
    # SageMaker has one role for both.
    ("sagemaker", "ecr:BatchGetImage", f"{ECR}/skyfan-executor-torch", True),
    ("sagemaker", "ecr:BatchGetImage", f"{ECR}/skyfan-executor-gpu", False),
    ("sagemaker", "logs:PutLogEvents", f"{LOGS}:/aws/sagemaker/ProcessingJobs:log-stream:1", True),
    ("sagemaker", "logs:PutLogEvents", f"{LOGS}:/aws/sagemaker/TrainingJobs:log-stream:1", False),
    # The state machine submits to its own queues, stops and follows, and hears of the end by rules of two names.
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-queue/skyfan-cpu", True),
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-queue/skyfan-gpu", True),
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-definition/skyfan-executor", True),
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-definition/skyfan-executor-gpu:3", True),
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-queue/another", False),
    ("pipeline", "batch:SubmitJob", f"{BATCH}:job-definition/another:1", False),
    ("pipeline", "batch:DescribeJobs", "*", True),
    ("pipeline", "batch:TerminateJob", f"{BATCH}:job/0b1c", True),
    ("pipeline", "batch:RegisterJobDefinition", f"{BATCH}:job-definition/skyfan-executor", False),
    ("pipeline", "sagemaker:CreateProcessingJob", f"{SAGEMAKER}:processing-job/first-0b1c", True),
    ("pipeline", "sagemaker:StopProcessingJob", f"{SAGEMAKER}:processing-job/first-0b1c", True),
    ("pipeline", "sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/first", False),
    ("pipeline", "events:PutRule", f"{RULE}BatchJobsRule", True),
    ("pipeline", "events:PutTargets", f"{RULE}SageMakerProcessingJobsRule", True),
    ("pipeline", "events:PutRule", f"{RULE}ECSTaskRule", False),
    # Without the passing service, and for any other role: no.
    ("pipeline", "iam:PassRole", f"{ROLE}-sagemaker", False),
]


@pytest.fixture(scope="module")
def own_moto() -> Iterator[str]:
    """An account of its own: the module as it comes, under the same name, is applied in the other one."""
    with moto_process(MOTO_SETTINGS) as url:
        yield url


@pytest.fixture(scope="module")
def extended(new_workspace: NewWorkspace, own_moto: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = for_moto(
        new_workspace(),
        own_moto,
        tmp_path_factory.mktemp("calls") / "computes",
        dataset_arns=["arn:aws:s3:::survey/dr18"],
        enable_batch=True,
        batch_gpu_instance_types=["g5.xlarge"],
        enable_sagemaker=True,
        bucket_name=BUCKET.rpartition(":")[2],
    )
    workspace.apply()
    return workspace


def test_who_may_do_what(extended: Workspace) -> None:
    held = policies(extended.resources())
    wrong = [row for row in TABLE if is_allowed(held[row[0]], row[1], row[2]) is not row[3]]
    assert wrong == []
    passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    assert is_allowed(held["pipeline"], "iam:PassRole", f"{ROLE}-sagemaker", passed)
    assert not is_allowed(held["pipeline"], "iam:PassRole", f"{ROLE}-executor", passed)


def test_nothing_is_wider_than_aws_requires(extended: Workspace) -> None:
    for who, document in policies(extended.resources()).items():
        assert too_wide(document) == [], who


def test_a_role_is_taken_by_its_service_for_this_account_alone(extended: Workspace) -> None:
    trusts = {"batch_rank": "ecs-tasks", "batch_start": "ecs-tasks", "sagemaker": "sagemaker", "pipeline": "states"}
    for role, service in trusts.items():
        address = f"aws_iam_role.{role}" + ("" if role == "pipeline" else '["this"]')
        (statement,) = json.loads(extended.resources()[address]["assume_role_policy"])["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": [ACCOUNT]}
        assert ("ArnLike" in statement["Condition"]) is (role == "pipeline")


def test_ranks_hold_no_more_actions_than_storage_needs(extended: Workspace) -> None:
    needed = {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListBucket"}
    assert actions(policies(extended.resources())["rank"]) == needed


def test_the_state_machine_is_whole_with_its_branches(extended: Workspace) -> None:
    machine: dict[str, Any] = json.loads(extended.resources()["aws_sfn_state_machine.pipeline"]["definition"])
    assert defects(machine) == []
    for state in ("BatchJob", "BatchArray", "ProcessingJob"):
        assert machine["States"][state]["Resource"].endswith(".sync")
    assert machine["States"]["OnGpus"]["Result"]["definition"] == f"{BATCH}:job-definition/skyfan-executor-gpu"


def test_a_job_runs_the_entry_that_every_scheduler_runs(extended: Workspace, own_moto: str) -> None:
    batch: Any = boto3.client(
        "batch", endpoint_url=own_moto, region_name=REGION, aws_access_key_id="t", aws_secret_access_key="t"
    )
    found = batch.describe_job_definitions(jobDefinitionName="skyfan-executor")["jobDefinitions"][0]
    command = found["containerProperties"]["command"]
    assert command[:3] == ["python", "-m", "services.executor.job"]
    assert {word.removeprefix("Ref::") for word in command if word.startswith("Ref::")} == set(found["parameters"])


def test_second_plan_finds_nothing_to_do_and_destroy_takes_it_all(extended: Workspace) -> None:
    result = extended.plan()
    assert result.status == 0, result.output
    extended.destroy()
    assert extended.resources() == {}
