import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from filelock import FileLock

import skyfan
from skyfan import store
from skyfan.job import Job
from skyfan.planning import Plan
from skyfan.records import RankRecord, Summary
from skyfan.runs.commit import RunLedger
from tests.conftest import make_sample
from tests.containers.stack import Stack, compose, compose_environment, servers
from tests.docker_engine import require_docker

SAMPLES = 960
SAMPLES_A_RANK = 120
PARTITION_BYTES = SAMPLES_A_RANK * 20504 + 2048
BUILD_DEADLINE_S = 1500
# Small batches, so that a stopped executor stops soon.
BATCH_SIZE = 16
DATASET, MODEL = "s3://skyfan-data/sky.pt", "s3://skyfan-data/model.safetensors"
JOB = (
    f"--dataset={DATASET}",
    f"--model={MODEL}",
    f"--partition-size={PARTITION_BYTES}",
    f"--batch-size={BATCH_SIZE}",
)


@dataclass(frozen=True)
class Inputs:
    """A dataset, a model of the reference system's size, and what one process makes of them."""

    dataset: Path
    model: Path
    expected: pa.Table = field(repr=False)


@dataclass(frozen=True)
class Finished:
    """What a job left."""

    summary: Summary = field(repr=False)
    records: dict[int, RankRecord] = field(repr=False)
    predictions: pa.Table = field(repr=False)
    plan: Plan = field(repr=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs them builds the images, on a bare machine for longer than a test may take otherwise."""
    for item in items:
        if "images" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BUILD_DEADLINE_S + 600))


@pytest.fixture(scope="session")
def images() -> None:
    """All images, built once."""
    require_docker()
    compose(compose_environment("skyfan-test"), "--profile", "*", "build", timeout_s=BUILD_DEADLINE_S)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """960 random galaxies; the model's size makes a rank take seconds, so that faults hit it while it works.

    Made by the first process of pytest that needs them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "inputs"
    dataset, model, output = folder / "sky.pt", folder / "model.safetensors", folder / "run"
    with FileLock(f"{folder}.lock", timeout=BUILD_DEADLINE_S):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make_inputs(dataset, model, output)
            (folder / "made").touch()
    return Inputs(dataset, model, finished(str(output)).predictions)


def make_inputs(dataset: Path, model: Path, output: Path) -> None:
    """Writes the dataset and the model, and runs them in this process."""
    import torch

    from skyfan.models import AstroMAE, AstroMAEConfig
    from skyfan.models.checkpoint import write_safetensors

    make_sample(dataset, SAMPLES)
    torch.manual_seed(11)
    model.write_bytes(write_safetensors(AstroMAE().state_dict(), AstroMAEConfig(), {}))
    job = Job(
        dataset=str(dataset),
        model=str(model),
        output=str(output),
        batch_size=BATCH_SIZE,
        partition_size=PARTITION_BYTES,
    )
    skyfan.run(job, on="process", progress=False)


@pytest.fixture(scope="package")
def stack(images: None, inputs: Inputs) -> Iterator[Stack]:
    """The servers with two executors, the dataset and the model in their S3; this process uses the same S3.

    Each process of pytest has its own, and for this folder only: containers that are left idle take turns on the
    processors that the next folder's need."""
    require_docker()
    process = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    environment = compose_environment(f"skyfan-test-{process}", EXECUTORS="2")
    with servers(environment) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(running.endpoint).items():
            patch.setenv(name, value)
        s3 = boto3.client("s3")
        for bucket in ("skyfan-data", "skyfan-results"):
            s3.create_bucket(Bucket=bucket)
        store.copy_in(inputs.dataset, DATASET)
        store.copy_in(inputs.model, MODEL)
        yield running


@pytest.fixture(autouse=True)
def jobs_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """A job ends with its test."""
    yield
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").end_jobs()


def s3_environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "127.0.0.1"])),
    }


def finished(output: str) -> Finished:
    """Reads a finished run from wherever it is."""
    folder = RunLedger(output)
    plan = folder.read_plan()
    read = {rank: folder.read_predictions(rank, plan.run_id) for rank in sorted(folder.committed_ranks())}
    return Finished(
        summary=Summary.model_validate_json(store.read(folder.summary_uri)),
        records={rank: record for rank, (_, record) in read.items()},
        predictions=pa.concat_tables(table.replace_schema_metadata(None) for table, _ in read.values()),
        plan=plan,
    )


def assert_same(found: Finished, inputs: Inputs) -> None:
    """Every sample once, in order, with the predictions of `--on process`."""
    import numpy as np

    assert found.summary.completeness.complete
    assert found.predictions["sample_index"].to_pylist() == list(range(SAMPLES))
    z, expected = (table["z_pred"].to_numpy() for table in (found.predictions, inputs.expected))
    assert (np.abs(z - expected) <= 2e-5 * np.maximum(1, np.abs(expected))).all()
