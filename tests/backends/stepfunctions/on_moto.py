"""Step Functions, Lambda and S3 of moto, which start nothing but keep what they are told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from skyfan import store
from tests.backends.stepfunctions.deployment import cut_samples
from tests.moto_server import moto_server, point_to

BUCKET = "skyfan"
SETTINGS = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@contextmanager
def moto_account(folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """The environment in which a process finds a server of moto with a bucket; meanwhile this process has it, too."""
    with moto_server() as url, pytest.MonkeyPatch.context() as patch:
        settings = point_to(url, patch, folder / "none") | more
        for name, value in more.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield settings


def run_input(sample: Any, model: Path, name: str) -> dict[str, Any]:
    """The input of a run of this name over the sample and the model, which are then in the bucket."""
    store.copy_in(sample.path, f"s3://{BUCKET}/sky.pt")
    store.copy_in(model, f"s3://{BUCKET}/model.pt")
    return {
        "dataset": f"s3://{BUCKET}/sky.pt",
        "model": f"s3://{BUCKET}/model.pt",
        "output": f"s3://{BUCKET}/{name}",
        "partition_size_bytes": cut_samples(40),
        "batch_size": 10,
    }


def make_function(name, memory_mb):
    """An image function in moto; its ARN comes back."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = boto3.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    return boto3.client("lambda").create_function(
        FunctionName=name,
        PackageType="Image",
        Code={"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"},
        Role=role,
        MemorySize=memory_mb,
        Architectures=["arm64"],
    )["FunctionArn"]
