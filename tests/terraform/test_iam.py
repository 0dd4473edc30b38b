"""Who may do what: the policies as applied, evaluated call by call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from skyfan.reference_payload import parse_execution_input

from .conftest import ACCOUNT, NewWorkspace, for_moto
from .conftest import FUNCTIONS as FUNCTION_NAMES
from .tf_harness.iam import actions, is_allowed, too_wide
from .tf_harness.workspace import ROOT, Workspace

REGION = "us-east-1"
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
    # The state machine calls the functions, itself, and the run's items and results.
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
    ("runner", "lambda:GetAccountSettings", "*", True),
]


def policies(resources: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Identity policies by who holds them: names are `<deployment>-<region>-<who>`."""
    found = {}
    for address, attributes in resources.items():
        if address.startswith(("aws_iam_role_policy.", "aws_iam_policy.")):
            name = attributes["role" if address.startswith("aws_iam_role_policy.") else "name"]
            found[name.partition(f"-{REGION}-")[2]] = json.loads(attributes["policy"])
    return found


@pytest.mark.parametrize(("who", "action", "resource", "allowed"), TABLE)
def test_table(deployed: Workspace, who: str, action: str, resource: str, allowed: bool) -> None:
    assert is_allowed(policies(deployed.resources())[who], action, resource) is allowed


def test_nobody_holds_more_actions_than_named_here(deployed: Workspace) -> None:
    held = {who: actions(document) for who, document in policies(deployed.resources()).items()}
    assert set(held) == {*FUNCTION_NAMES, "pipeline", "runner"}
    assert held["aggregator"] == FUNCTIONS
    assert held["partitioner"] == held["executor"] == held["executor-torch"] == FUNCTIONS | {"s3:DeleteObject"}
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
    functions = {f"skyfan-{REGION}-{name}": "lambda.amazonaws.com" for name in FUNCTION_NAMES}
    assert services == functions | {f"skyfan-{REGION}-pipeline": "states.amazonaws.com"}


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        (MACHINE, True),
        (f"{MACHINE}/Infer", True),  # a child of the map, by its label
        (f"{MACHINE}:1", True),  # a version or an alias
        (f"{MACHINE}2", False),
        (f"{STATES}:stateMachine:another", False),
    ],
)
def test_children_of_the_map_may_take_the_pipelines_role(deployed: Workspace, source: str, allowed: bool) -> None:
    trust = json.loads(deployed.resources()["aws_iam_role.pipeline"]["assume_role_policy"])
    trust["Statement"][0]["Resource"] = "*"  # a trust policy has none: the role itself
    asked = {"aws:SourceArn": source, "aws:SourceAccount": ACCOUNT}
    assert is_allowed(trust, "sts:AssumeRole", "*", asked) is allowed
    assert not is_allowed(trust, "sts:AssumeRole", "*", asked | {"aws:SourceAccount": "999999999999"})


KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/0b1c"
# The reference system's published payload, and a second team's bucket, as they are (tests/data/published/aws).
PAYLOAD = json.loads((ROOT / "tests/data/published/aws/demo input.json").read_text())
TEAM = PAYLOAD | {
    "bucket": "team4-cosmical",
    "S3_object_name": "scripts/Anomaly Detection",
    "result_path": "results/1GB/1",
}


@pytest.fixture(scope="session", params=["published", "team"])
def payload_and_policies(
    request: pytest.FixtureRequest,
    new_workspace: NewWorkspace,
    moto_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """A payload, and the policies of a deployment on the bucket that it names."""
    payload = PAYLOAD if request.param == "published" else TEAM
    s3 = boto3.client("s3", endpoint_url=moto_url, region_name=REGION, aws_access_key_id="t", aws_secret_access_key="t")
    s3.create_bucket(Bucket=payload["bucket"])
    own_data = payload["bucket"] == payload["data_bucket"]
    workspace = for_moto(
        new_workspace(),
        moto_url,
        tmp_path_factory.mktemp("calls") / "calls",
        environment=request.param,
        existing_bucket_name=payload["bucket"],
        data_prefixes=[payload["data_prefix"]] if own_data else ["data"],
        model_prefixes=[payload["S3_object_name"].split("/")[0]],
        output_prefixes=[payload["result_path"].split("/")[0]],
        dataset_arns=[] if own_data else [f"arn:aws:s3:::{payload['data_bucket']}/{payload['data_prefix']}"],
        dataset_kms_key_arns=[KEY],
    )
    workspace.apply()
    found = policies(workspace.resources())
    workspace.destroy()
    assert payload["bucket"] in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]], "it is not ours to destroy"
    return payload, found


def test_the_reference_systems_payload_is_allowed(
    payload_and_policies: tuple[dict[str, str], dict[str, dict[str, Any]]],
) -> None:
    payload, held = payload_and_policies
    job = parse_execution_input(payload)
    arn = "arn:aws:s3:::"
    data = job.dataset.replace("s3://", arn)
    model, output = (uri.replace("s3://", arn).rstrip("/") for uri in (job.model, job.output))
    asked = [
        *((who, "s3:GetObject", f"{data}1.pt") for who in ("partitioner", "executor", "executor-torch")),
        *((who, "s3:GetObject", f"{model}/Fine_Tune_Model/model.pt") for who in ("executor", "executor-torch")),
        *((who, "s3:PutObject", f"{output}/{name}") for who in FUNCTION_NAMES for name in ("plan.json", "0.json")),
        *((who, "s3:GetObject", f"{output}/items.json") for who in (*FUNCTION_NAMES, "pipeline", "runner")),
        ("pipeline", "s3:PutObject", f"{output}/map/0b1c/manifest.json"),
        ("executor-torch", "s3:ListBucket", arn + payload["bucket"]),
        ("partitioner", "s3:DeleteObject", f"{output}/predictions/rank-0000000.parquet"),
        ("executor", "s3:DeleteObject", f"{output}/comm/0f1e/start/message/0-1/0"),
    ]
    for who, action, resource in asked:
        assert is_allowed(held[who], action, resource), (who, action, resource)
    prefix = {"s3:prefix": f"{payload['data_prefix']}/"}
    assert is_allowed(held["partitioner"], "s3:ListBucket", arn + payload["data_bucket"], prefix)
    assert not is_allowed(held["executor"], "s3:PutObject", f"{model}/Fine_Tune_Model/model.pt")
    assert not is_allowed(held["executor"], "s3:PutObject", f"{data}1.pt")


def test_a_dataset_under_a_customers_key_is_decrypted_through_s3_only(
    payload_and_policies: tuple[dict[str, str], dict[str, dict[str, Any]]],
) -> None:
    """ "Protecting data with SSE-KMS": a GET of such an object also needs kms:Decrypt on its key."""
    _, held = payload_and_policies
    for who in ("partitioner", "executor", "executor-torch"):
        for service, allowed in (
            ("s3.eu-west-1.amazonaws.com", True),
            ("secretsmanager.eu-west-1.amazonaws.com", False),
        ):
            assert is_allowed(held[who], "kms:Decrypt", KEY, {"kms:ViaService": service}) is allowed
        assert not is_allowed(held[who], "kms:Decrypt", f"{KEY}2", {"kms:ViaService": "s3.eu-west-1.amazonaws.com"})
    assert not is_allowed(held["aggregator"], "kms:Decrypt", KEY, {"kms:ViaService": "s3.eu-west-1.amazonaws.com"})


def test_bucket_refuses_plain_http(deployed: Workspace) -> None:
    (statement,) = json.loads(deployed.resources()['aws_s3_bucket_policy.this["this"]']["policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert sorted(statement["Resource"]) == [BUCKET, f"{BUCKET}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": ["false"]}}


def test_lambda_pulls_only_for_its_own_function(deployed: Workspace) -> None:
    policy = json.loads(deployed.resources()['aws_ecr_repository_policy.this["executor"]']["policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": [f"{LAMBDA}:skyfan-executor"]}
