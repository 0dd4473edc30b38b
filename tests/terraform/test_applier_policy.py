"""The policy for the person who applies, generated from a plan: enough for everything in it, and for nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ACCOUNT, NewWorkspace, for_moto
from .tf_harness.iam import is_allowed
from .tf_harness.workspace import ROOT, used_types

SCRIPT = ROOT / "infra/terraform/scripts/applier_policy.py"
REGION = "us-east-1"
BUCKET = f"arn:aws:s3:::skyfan-all-{ACCOUNT}-{REGION}"


def load_script() -> Any:
    """The script as a module: it is run as a command, outside any package."""
    specification = importlib.util.spec_from_file_location("applier_policy", SCRIPT)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


applier_policy = load_script()


@pytest.fixture(scope="module")
def policy(new_workspace: NewWorkspace, moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a plan with everything that the module can make."""
    workspace = for_moto(
        new_workspace(),
        moto_url,
        tmp_path_factory.mktemp("calls") / "calls",
        environment="all",
        enable_rendezvous=True,
        enable_batch=True,
        batch_gpu_instance_types=["g5.xlarge"],
        enable_sagemaker=True,
        monthly_budget_usd=10,
        alarm_email="sky@example.org",
        force_destroy=True,
    )
    workspace.run("plan", "-out=test.plan", "-no-color")
    shown = workspace.run("show", "-json", "test.plan").output
    made: dict[str, Any] = applier_policy.policy_of(json.loads(shown[shown.index("{") :]))
    return made


def test_every_resource_type_of_the_module_is_covered() -> None:
    resources, _ = used_types(ROOT / "infra/terraform")
    assert len(resources) > 30
    for kind in resources:
        assert applier_policy.entry_of(kind) in applier_policy.ACTIONS


def test_a_resource_type_that_is_not_covered_is_an_error() -> None:
    with pytest.raises(SystemExit, match="aws_sagemaker_model: add it to ACTIONS"):
        applier_policy.entry_of("aws_sagemaker_model")


def test_it_fits_a_managed_policy(policy: dict[str, Any]) -> None:
    assert len(json.dumps(policy, separators=(",", ":"))) <= applier_policy.MAX_CHARACTERS


IAM, LAMBDA = f"arn:aws:iam::{ACCOUNT}", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
ECR, LOGS = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:CreateBucket", BUCKET, True),
        ("s3:PutBucketVersioning", BUCKET, True),
        ("s3:PutLifecycleConfiguration", BUCKET, True),
        ("s3:PutEncryptionConfiguration", BUCKET, True),
        ("s3:PutBucketPublicAccessBlock", BUCKET, True),
        ("s3:PutBucketOwnershipControls", BUCKET, True),
        ("s3:DeleteObjectVersion", f"{BUCKET}/runs/first/plan.json", True),  # force_destroy
        ("s3:GetObject", f"{BUCKET}/data/sky.pt", False),
        ("s3:CreateBucket", "arn:aws:s3:::another", False),
        ("iam:CreateRole", f"{IAM}:role/skyfan-all-{REGION}-executor", True),
        ("iam:PassRole", f"{IAM}:role/skyfan-all-{REGION}-executor", True),
        ("iam:PutRolePolicy", f"{IAM}:role/skyfan-all-{REGION}-pipeline", True),
        ("iam:CreateRole", f"{IAM}:role/admin", False),
        ("iam:PassRole", f"{IAM}:role/admin", False),
        ("iam:CreatePolicy", f"{IAM}:policy/skyfan-all-{REGION}-runner", True),
        ("iam:AttachUserPolicy", f"{IAM}:user/me", False),
        ("lambda:CreateFunction", f"{LAMBDA}:skyfan-all-executor-torch", True),
        ("lambda:AddPermission", f"{LAMBDA}:skyfan-all-aggregator", True),
        ("lambda:InvokeFunction", f"{LAMBDA}:skyfan-all-executor", True),  # by *Function; it made the function
        ("lambda:CreateFunction", f"{LAMBDA}:another", False),
        ("ecr:GetAuthorizationToken", "*", True),
        ("ecr:PutImage", f"{ECR}/skyfan-all-executor", True),
        ("ecr:PutImage", f"{ECR}/another", False),
        ("logs:PutRetentionPolicy", f"{LOGS}:/aws/lambda/skyfan-all-executor", True),
        ("logs:DeleteLogGroup", f"{LOGS}:/aws/lambda/another", False),
        ("states:CreateStateMachine", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:skyfan-all-pipeline", True),
        ("events:PutTargets", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/skyfan-all-pipeline-stopped", True),
        ("iam:CreateServiceLinkedRole", "*", True),
        ("ecs:CreateService", "*", True),
        ("batch:CreateComputeEnvironment", "*", True),
        ("batch:SubmitJob", "*", False),
        ("iam:CreateInstanceProfile", f"{IAM}:instance-profile/skyfan-all-{REGION}-gpu", True),
        ("iam:CreateInstanceProfile", f"{IAM}:instance-profile/admin", False),
        ("iam:AttachRolePolicy", f"{IAM}:role/skyfan-all-{REGION}-gpu", True),
        ("ec2:CreateVpcEndpoint", "*", True),
        ("logs:PutRetentionPolicy", f"{LOGS}:/aws/batch/skyfan-all-ranks", True),
        ("secretsmanager:GetSecretValue", "*", False),
    ],
)
def test_table(policy: dict[str, Any], action: str, resource: str, allowed: bool) -> None:
    assert is_allowed(policy, action, resource) is allowed


def test_without_force_destroy_no_object_may_be_deleted(
    new_workspace: NewWorkspace, moto_url: str, tmp_path: Path
) -> None:
    workspace = for_moto(new_workspace(), moto_url, tmp_path / "calls", environment="all")
    workspace.run("plan", "-out=test.plan", "-no-color")
    shown = workspace.run("show", "-json", "test.plan").output
    document = applier_policy.policy_of(json.loads(shown[shown.index("{") :]))
    assert not is_allowed(document, "s3:DeleteObject", f"{BUCKET}/runs/first/plan.json")
    assert not is_allowed(document, "ecs:CreateService", "*")
    assert not is_allowed(document, "budgets:ModifyBudget", f"arn:aws:budgets::{ACCOUNT}:budget/skyfan-all-{REGION}")
