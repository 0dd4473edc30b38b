"""What `terraform apply` makes on our LocalStack, a bucket, functions, roles, logs and the state machine, runs a job.

The services' own images answer as the functions' workers, entered by the command that the module gives the functions.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.docker_engine import require_docker

from .conftest import FUNCTIONS, IMAGE, NewWorkspace, for_moto
from .tf_harness.workspace import ROOT, Workspace

sys.path.insert(0, str(ROOT / "tests/localstack"))

from localstack_support import Stack, build_image, localstack  # type: ignore[import-not-found]  # found through the line above

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PORTS = {
    "skyfan-partitioner": 9001,
    "skyfan-executor": 9002,
    "skyfan-executor-torch": 9003,
    "skyfan-aggregator": 9004,
}
RANKS, SAMPLES = 3, 101  # tests.conftest makes 101
RUN_TIMEOUT_S = 240
COLUMNS = ("sample_index", "z_pred")


def build_service(service: str) -> str:
    """The service's image, as `docker compose build` makes it; torch from a folder of wheels where pip has one."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False
    ).stdout.strip()
    wheels = os.environ.get("WHEELS_DIR") or (configured if Path(configured).is_dir() else str(ROOT / "wheels"))
    options = ["--file", str(ROOT / "services/Dockerfile"), "--target", service]
    if service == "executor-torch":
        options += ["--build-context", f"wheels={wheels}", *(["--build-arg", "TORCH_INDEX="] if configured else [])]
    return str(build_image(f"skyfan-{service}:test", ROOT, *options))


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    require_docker()
    with localstack(PORTS) as running:
        yield running


@pytest.fixture(scope="module")
def applied(stack: Stack, new_workspace: NewWorkspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = for_moto(
        new_workspace(),
        stack.endpoint,
        tmp_path_factory.mktemp("calls") / "calls",
        build_images=False,  # LocalStack's open core has no image registry
        image_uris={service: IMAGE.format(service) for service in FUNCTIONS},
        create_dashboard=False,
    )
    workspace.apply()
    return workspace


def start_workers(stack: Stack, workspace: Workspace) -> None:
    """A container for each function that apply made, with the function's own entry point, command and environment."""
    for function, port in PORTS.items():
        service = function.removeprefix("skyfan-")
        attributes = workspace.resources()[f'aws_lambda_function.this["{service}"]']
        (entry,) = attributes["image_config"]
        (environment,) = attributes["environment"]
        stack.start_worker(
            build_service(service),
            function,
            port,
            command=entry["entry_point"] + entry["command"],
            environment=environment["variables"],
            memory_mb=attributes["memory_size"],
        )


def predictions(s3: Any, bucket: str) -> NDArray[np.float64]:
    """Predicted redshifts of the run, in the dataset's order."""
    found = s3.list_objects_v2(Bucket=bucket, Prefix="runs/first/predictions/")["Contents"]
    tables = [pq.read_table(io.BytesIO(s3.get_object(Bucket=bucket, Key=o["Key"])["Body"].read())) for o in found]
    rows = sorted(row for table in tables for row in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
    assert [index for index, _ in rows] == list(range(SAMPLES))
    return np.array([value for _, value in rows])


def test_what_apply_makes_runs_a_job(
    stack: Stack, applied: Workspace, small_model: Path, sample: Any, expected_z: NDArray[np.float32]
) -> None:
    outputs = applied.outputs()
    bucket, s3 = outputs["bucket"], stack.client("s3")
    s3.upload_file(str(sample.path), bucket, "data/sky.pt")
    s3.upload_file(str(small_model), bucket, "models/small.pt")
    start_workers(stack, applied)

    request = {
        "dataset": f"s3://{bucket}/data/sky.pt",
        "model": f"s3://{bucket}/models/small.pt",
        "output": f"s3://{bucket}/runs/first",
        "partition_size": 35 * 20_500,  # 35, 35 and 31 samples
        "workers": 2,
    }
    started = stack.client("stepfunctions").start_execution(
        stateMachineArn=outputs["state_machine_arn"], input=json.dumps(request)
    )
    ended = stack.wait(started["executionArn"], RUN_TIMEOUT_S)
    assert ended["status"] == "SUCCEEDED", ended
    assert (ended["output"]["status"], ended["output"]["samples_done"]) == ("complete", SAMPLES)
    records = json.loads(s3.get_object(Bucket=bucket, Key="runs/first/combined_data.json")["Body"].read())
    assert len(records) == RANKS
    np.testing.assert_allclose(predictions(s3, bucket), expected_z, atol=1e-5)


def test_destroy_takes_everything(stack: Stack, applied: Workspace) -> None:
    bucket = applied.outputs()["bucket"]
    s3 = stack.client("s3")
    for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=item["Key"])
    applied.destroy()
    assert applied.resources() == {}
    assert stack.client("lambda").list_functions()["Functions"] == []
    assert stack.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]]
