"""Who may do what: the policies as applied, evaluated call by call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import ACCOUNT
from .tf_harness.iam import actions, is_allowed, too_wide
from .tf_harness.workspace import Workspace

BUCKET = f"arn:aws:s3:::skyfan-{ACCOUNT}-us-east-1"
DATA, MODEL, RUN = f"{BUCKET}/data/demo.pt", f"{BUCKET}/models/astromae.pt", f"{BUCKET}/runs/first/7.json"
SURVEY, OPEN = "arn:aws:s3:::survey/dr18/1.pt", "arn:aws:s3:::open-sky/1.pt"
STATES, LAMBDA = f"arn:aws:states:us-east-1:{ACCOUNT}", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"
LOGS = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda"
MACHINE = f"{STATES}:stateMachine:skyfan-pipeline"
RUN_EXECUTION, CHILD = f"{STATES}:execution:skyfan-pipeline:first", f"{STATES}:execution:skyfan-pipeline/Infer:0b1c"
MAP_RUN = f"{STATES}:mapRun:skyfan-pipeline/Infer:9f"

FUNCTIONS = {
    "s3:GetObject",
    "s3:PutObject",
    "s3:AbortMultipartUpload",
    "s3:ListBucket",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
}

# who, action, resource, allowed
TABLE: list[tuple[str, str, str, bool]] = [
    # The executor reads data, models and its run, and writes its run only.
    ("executor", "s3:GetObject", DATA, True),
    ("executor", "s3:GetObject", MODEL, True),
    ("executor", "s3:GetObject", SURVEY, True),
    ("executor", "s3:GetObject", OPEN, True),
    ("executor", "s3:GetObject", "arn:aws:s3:::survey/dr19/1.pt", False),
    ("executor", "s3:GetObject", "arn:aws:s3:::survey/dr180/1.pt", False),
    ("executor", "s3:GetObject", "arn:aws:s3:::somebody-elses/1.pt", False),
    ("executor", "s3:GetObject", f"{BUCKET}/terraform.tfstate", False),
    ("executor", "s3:PutObject", RUN, True),
    ("executor", "s3:PutObject", DATA, False),
    ("executor", "s3:PutObject", MODEL, False),
    ("executor", "s3:PutObject", SURVEY, False),
    ("executor", "s3:DeleteObject", RUN, False),
    # Messages between ranks are taken away again, and nothing else.
    ("executor", "s3:DeleteObject", f"{BUCKET}/runs/first/comm/0f1e/start/message/0-1/00000000", True),
    ("executor", "s3:DeleteObject", f"{BUCKET}/runs/first/predictions/rank-0.parquet", False),
    ("executor", "s3:DeleteObject", f"{BUCKET}/data/comm/1.pt", False),
    ("partitioner", "s3:DeleteObject", f"{BUCKET}/runs/first/comm/0f1e/start/message/0-1/00000000", False),
    ("aggregator", "s3:DeleteObject", f"{BUCKET}/runs/first/comm/0f1e/start/message/0-1/00000000", False),
    ("executor", "s3:PutBucketPolicy", BUCKET, False),
    ("executor", "s3:ListBucket", BUCKET, True),
    ("executor", "s3:ListBucket", "arn:aws:s3:::somebody-elses", False),
    ("executor", "logs:PutLogEvents", f"{LOGS}/skyfan-executor:log-stream:1", True),
    ("executor", "logs:PutLogEvents", f"{LOGS}/skyfan-aggregator:log-stream:1", False),
    ("executor", "logs:CreateLogGroup", f"{LOGS}/skyfan-executor", False),
    ("executor", "states:StartExecution", MACHINE, False),
    ("executor", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-executor", False),
    ("executor", "secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:x", False),
    ("executor", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/skyfan-executor", False),
    # The partitioner reads data, never a model.
    ("partitioner", "s3:GetObject", DATA, True),
    ("partitioner", "s3:GetObject", SURVEY, True),
    ("partitioner", "s3:GetObject", MODEL, False),
    ("partitioner", "s3:PutObject", RUN, True),
    ("partitioner", "s3:PutObject", DATA, False),
    # Starting over removes what the run committed before, and nothing else.
    ("partitioner", "s3:DeleteObject", f"{BUCKET}/runs/a/predictions/rank-0.parquet", True),
    ("partitioner", "s3:DeleteObject", f"{BUCKET}/runs/team/a/summary.json", True),
    ("partitioner", "s3:DeleteObject", f"{BUCKET}/runs/a/report.html", True),
    ("partitioner", "s3:DeleteObject", f"{BUCKET}/runs/a/notes.txt", False),
    ("partitioner", "s3:DeleteObject", DATA, False),
    ("partitioner", "s3:DeleteObject", MODEL, False),
    # The aggregator sees the run and nothing else.
    ("aggregator", "s3:GetObject", RUN, True),
    ("aggregator", "s3:PutObject", RUN, True),
    ("aggregator", "s3:DeleteObject", f"{BUCKET}/runs/a/report.html", False),
    ("aggregator", "s3:GetObject", DATA, False),
    ("aggregator", "s3:GetObject", MODEL, False),
    ("aggregator", "s3:GetObject", OPEN, False),
    # The state machine calls the three functions, itself, and the run's items and results.
    ("pipeline", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-partitioner", True),
    ("pipeline", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-executor", True),
    ("pipeline", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-aggregator", True),
    ("pipeline", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-other", False),
    ("pipeline", "lambda:UpdateFunctionCode", f"{LAMBDA}:skyfan-executor", False),
    ("pipeline", "s3:GetObject", f"{BUCKET}/runs/first/plan/map-items.json", True),
    ("pipeline", "s3:PutObject", f"{BUCKET}/runs/first/map/manifest.json", True),
    ("pipeline", "s3:PutObject", DATA, False),
    ("pipeline", "s3:GetObject", DATA, False),
    ("pipeline", "states:StartExecution", MACHINE, True),
    ("pipeline", "states:StartExecution", f"{STATES}:stateMachine:another", False),
    ("pipeline", "states:DescribeExecution", CHILD, True),
    ("pipeline", "states:StopExecution", CHILD, True),
    ("pipeline", "states:RedriveExecution", CHILD, True),
    ("pipeline", "states:StopExecution", f"{STATES}:execution:another/Infer:0b1c", False),
    ("pipeline", "states:StopExecution", RUN_EXECUTION, False),
    ("pipeline", "logs:CreateLogDelivery", "*", True),
    # Who runs: start, follow and stop this pipeline; data and models in, results out.
    ("runner", "states:StartExecution", MACHINE, True),
    ("runner", "states:StartExecution", f"{STATES}:stateMachine:another", False),
    ("runner", "states:StopExecution", RUN_EXECUTION, True),
    ("runner", "states:RedriveExecution", RUN_EXECUTION, True),
    ("runner", "states:ListMapRuns", RUN_EXECUTION, True),
    ("runner", "states:DescribeMapRun", MAP_RUN, True),
    ("runner", "states:DescribeMapRun", f"{STATES}:mapRun:another/Infer:9f", False),
    ("runner", "states:DeleteStateMachine", MACHINE, False),
    ("runner", "s3:PutObject", DATA, True),
    ("runner", "s3:PutObject", MODEL, True),
    ("runner", "s3:GetObject", RUN, True),
    ("runner", "s3:DeleteObject", RUN, False),
    ("runner", "s3:DeleteBucket", BUCKET, False),
    ("runner", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-executor", True),
    ("runner", "lambda:InvokeFunction", f"{LAMBDA}:skyfan-aggregator", False),
    ("runner", "lambda:UpdateFunctionCode", f"{LAMBDA}:skyfan-executor", False),
    ("runner", "lambda:GetFunctionConfiguration", f"{LAMBDA}:skyfan-executor", True),
]


def policies(resources: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Identity policies by who holds them."""
    found = {}
    for address, attributes in resources.items():
        if address.startswith("aws_iam_role_policy."):
            found[attributes["role"].removeprefix("skyfan-")] = json.loads(attributes["policy"])
        elif address.startswith("aws_iam_policy."):
            found[attributes["name"].removeprefix("skyfan-")] = json.loads(attributes["policy"])
    return found


@pytest.mark.parametrize(("who", "action", "resource", "allowed"), TABLE)
def test_table(deployed: Workspace, who: str, action: str, resource: str, allowed: bool) -> None:
    assert is_allowed(policies(deployed.resources())[who], action, resource) is allowed


def test_nobody_holds_more_actions_than_named_here(deployed: Workspace) -> None:
    held = {who: actions(document) for who, document in policies(deployed.resources()).items()}
    assert set(held) == {"partitioner", "executor", "aggregator", "pipeline", "runner"}
    assert held["aggregator"] == FUNCTIONS
    assert held["partitioner"] == held["executor"] == FUNCTIONS | {"s3:DeleteObject"}
    assert not any(name.startswith(("iam:", "sts:", "kms:", "ec2:")) for names in held.values() for name in names)


def test_nothing_is_wider_than_aws_requires(deployed: Workspace) -> None:
    for who, document in policies(deployed.resources()).items():
        assert too_wide(document) == [], who


WIDENINGS = {
    'actions   = ["s3:GetObject"]': ('actions   = ["s3:*"]', "Read allows s3:*"),
    'actions   = ["lambda:InvokeFunction"]': ('actions   = ["*"]', "InvokeFunctions allows *"),
    '"s3:PutObject", "s3:AbortMultipartUpload"]': ('"s3:Put*"]', "WriteRuns allows s3:Put*"),
    "resources = [local.pipeline_arn]": (
        'resources = ["*"]',
        "StartChildren allows states:StartExecution on every resource",
    ),
    "resources = [local.bucket_arn]": ('resources = ["arn:aws:s3:::*"]', "ListOwnBucket allows arn:aws:s3:::*"),
}


def test_widening_is_noticed(deployed: Workspace, tmp_path: Path) -> None:
    changed = deployed.copy(tmp_path / "changed")
    for old, (new, _) in WIDENINGS.items():
        changed.replace("iam.tf", old, new)
    findings = {text for document in policies(changed.planned()).values() for text in too_wide(document)}
    assert findings == {finding for _, finding in WIDENINGS.values()}


def test_dataset_bucket_is_listed_under_its_prefix_only(deployed: Workspace) -> None:
    executor = policies(deployed.resources())["executor"]
    for prefix, allowed in (("dr18/", True), ("dr18/100MB/", True), ("dr19/", False), ("", False)):
        assert is_allowed(executor, "s3:ListBucket", "arn:aws:s3:::survey", {"s3:prefix": prefix}) is allowed
    assert is_allowed(executor, "s3:ListBucket", "arn:aws:s3:::open-sky", {"s3:prefix": ""})


def test_only_the_service_may_take_a_role(deployed: Workspace) -> None:
    resources = deployed.resources()
    services = {
        attributes["name"]: json.loads(attributes["assume_role_policy"])["Statement"][0]["Principal"]["Service"]
        for address, attributes in resources.items()
        if address.startswith("aws_iam_role.")
    }
    assert services == {
        "skyfan-partitioner": "lambda.amazonaws.com",
        "skyfan-executor": "lambda.amazonaws.com",
        "skyfan-aggregator": "lambda.amazonaws.com",
        "skyfan-pipeline": "states.amazonaws.com",
    }
    trust = json.loads(resources["aws_iam_role.pipeline"]["assume_role_policy"])["Statement"][0]
    assert trust["Condition"]["ArnLike"] == {"aws:SourceArn": [MACHINE]}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": [ACCOUNT]}


def test_bucket_refuses_plain_http(deployed: Workspace) -> None:
    (statement,) = json.loads(deployed.resources()["aws_s3_bucket_policy.this"]["policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert sorted(statement["Resource"]) == [BUCKET, f"{BUCKET}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": ["false"]}}


def test_lambda_pulls_only_for_its_own_function(deployed: Workspace) -> None:
    policy = json.loads(deployed.resources()['aws_ecr_repository_policy.this["executor"]']["policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": [f"{LAMBDA}:skyfan-executor"]}
