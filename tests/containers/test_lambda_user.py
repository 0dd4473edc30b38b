"""The images as Lambda runs them: its own user without a passwd entry, no HOME, nothing writable but 512 MB of /tmp.

"Container image requirements" and "Lambda execution environment", AWS Lambda Developer Guide (read 2026-11): USER of an
image is ignored, the root file system is read-only. Every operation is really called, through AWS's runtime client.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pytest

from skyfan import store
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from tests.backends.stepfunctions.runtime_api import Worker, function_environment, runtime_api
from tests.conftest import Sample
from tests.containers.stack import TAG
from tests.docker_engine import require_docker
from tests.moto_server import moto_server

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BUCKET = "skyfan"
SERVICES = ("executor", "executor-torch", "partitioner", "aggregator")
SAMPLES, PER_RANK = 101, 60


@contextmanager
def function(service: str, folder: Path, environment: dict[str, str]) -> Iterator[Worker]:
    """One execution environment of a function; containers share this machine's loopback, where S3 and the API are."""
    with runtime_api(folder / f"{service}.log") as (running, port), running.log.open("w") as log:
        name = f"skyfan-test-{service}-{port}"
        confined = ["--user=993:990", "--read-only", "--tmpfs=/tmp:size=512m", "--cap-drop=ALL", "--memory=3008m"]
        variables = [
            f"--env={key}={value}" for key, value in (function_environment(service, port) | environment).items()
        ]
        handler = f"services.{service.removesuffix('-torch')}.lambda_handler.handler"
        # Not even the image's own HOME: code that needs a home directory would fail where the image forgets it.
        command = ["env", "-u", "HOME", "-u", "USER", "python", "-m", "awslambdaric", handler]
        # The image's own check asks a gRPC server, which a function is not: a Python every second while it starts.
        options = ["--rm", "--no-healthcheck", "--network=host", f"--name={name}"]
        process = subprocess.Popen(
            [
                *("docker", "run", *options, *confined, *variables),
                *(f"--entrypoint={command[0]}", f"skyfan-{service}:{TAG}", *command[1:]),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield running
        finally:
            subprocess.run(["docker", "kill", name], capture_output=True, check=False, timeout=60)
            process.wait(60)


@pytest.fixture(scope="module")
def functions(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worker]]:
    require_docker()
    settings = {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    folder = tmp_path_factory.mktemp("functions")
    with moto_server() as url, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        settings["AWS_ENDPOINT_URL"] = url
        for name, value in settings.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield {service: stack.enter_context(function(service, folder, settings)) for service in SERVICES}


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole module as the reference system pickles it, under its own classes' names (tests/models/foreign)."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "pickle_it.py", str(folder)]
    subprocess.run(command, cwd=Path(__file__).parents[1] / "models/foreign", check=True, timeout=120)
    return folder / "whole.pt"


def asked(functions: dict[str, Worker], service: str, **event: Any) -> Any:
    answer = functions[service].invoke(event | {"attempt": 0})
    assert "errorType" not in answer, (answer, functions[service].log.read_text()[-3000:])
    return answer


def run_through(functions: dict[str, Worker], given: dict[str, Any]) -> tuple[Any, str]:
    """What the state machine does, state by state; Aggregate's answer and the engine."""
    started = {"arn": "arn:aws:states:x", "name": "test", "started_at": datetime.now(UTC).isoformat()}
    execution = {"execution": started}
    prepared = asked(functions, "executor-torch", op="prepare", input=given, **execution)
    of_run = {"job": prepared["job"], **execution}
    plan = asked(functions, "partitioner", op="plan", model=prepared["model"], **of_run)
    model = asked(functions, "executor-torch", op="convert", model=prepared["model"], **of_run)
    executor = "executor" if model["engine"] == "openvino" else "executor-torch"
    for item in json.loads(store.read(f"s3://{BUCKET}/{plan['items']['key']}")):
        rank = {"run_id": plan["run_id"], "rank": item["rank"], "item": item, "group": None, "execution": "test"}
        infer = asked(functions, executor, op="infer", job=prepared["job"], model=model, **rank)
        assert infer["status"] == "committed"
    at = datetime.now(UTC).isoformat()
    return asked(functions, "aggregator", op="aggregate", plan=plan, map={}, map_ended_at=at, **of_run), model["engine"]


def predicted(output: str) -> np.ndarray:
    ledger = RunLedger(output)
    plan = ledger.read_plan()
    tables = [ledger.read_predictions(rank, plan.run_id)[0] for rank in sorted(ledger.committed_ranks())]
    return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)["z_pred"].to_numpy()


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_the_demo_model_runs_through_all_functions(functions: dict[str, Worker], sample: Sample, engine: str) -> None:
    store.copy_in(sample.path, f"s3://{BUCKET}/data/sky.pt")
    output = f"s3://{BUCKET}/runs/demo-{engine}"
    given = {"dataset": f"s3://{BUCKET}/data/sky.pt", "output": output, "partition_size": PER_RANK * 20_504}
    done, used = run_through(functions, given | {"engine": engine})
    assert (done["status"], done["samples_done"]) == ("complete", SAMPLES)
    assert used == ("openvino" if engine == "auto" else "torch")
    assert store.exists(RunFolder(output).report_uri)


def test_a_reference_checkpoint_runs_through_all_functions(
    functions: dict[str, Worker], sample: Sample, reference_checkpoint: Path
) -> None:
    from skyfan.models import load_model

    store.copy_in(sample.path, f"s3://{BUCKET}/data/sky.pt")
    store.copy_in(reference_checkpoint, f"s3://{BUCKET}/models/reference.pt")
    output = f"s3://{BUCKET}/runs/reference"
    given = {"dataset": f"s3://{BUCKET}/data/sky.pt", "output": output, "partition_size": PER_RANK * 20_504}
    done, used = run_through(functions, given | {"model": f"s3://{BUCKET}/models/reference.pt"})
    assert (done["status"], done["samples_done"], used) == ("complete", SAMPLES, "openvino")
    import torch

    model = load_model(str(reference_checkpoint))
    expected = model.predict(torch.from_numpy(sample.image), torch.from_numpy(sample.magnitude)).numpy()[:, 0]
    assert (np.abs(predicted(output) - expected) <= 1e-4 * np.maximum(1, np.abs(expected))).all()
