"""One dataset and one model on every backend: predictions of `model(x)`, identical accounting.

Compose, Lambda, Batch and SageMaker are those of compose.yaml: the services' own images, and LocalStack with the
deployed state machine.
"""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import skyfan
from skyfan import store
from skyfan.backends.base import BackendSettings
from skyfan.backends.slurm.backend import SlurmBackend
from skyfan.backends.slurm.slurm_options import SlurmOptions
from skyfan.cli import app
from skyfan.errors import SkyfanError
from skyfan.job import Compute, Job
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from skyfan.serving.rank_job import run_rank_job
from tests.backends.slurm.conftest import _cluster, cluster  # noqa: F401 (fixtures)
from tests.conftest import Sample
from tests.containers.conftest import s3_environment
from tests.containers.stack import Stack, compose_environment
from tests.docker_engine import require_docker
from tests.e2e.support import assert_equal_z, make_job

pytestmark = pytest.mark.slow

RANKS = 3
RESULTS = "s3://skyfan-results"
PROJECT = "skyfan-test-pipeline"
FUNCTIONS = ("lambda-partitioner", "lambda-executor", "lambda-executor-torch", "lambda-aggregator")
SERVICES = ("localstack", *FUNCTIONS, "schedulers")
MAKE_PIPELINE = "python -m skyfan_compose.pipeline"
ACCOUNTED = ("run_id", "state", "samples", "data_bytes", "world_size", "completeness", "failures", "reused_ranks")


@pytest.fixture(scope="module")
def made_pipeline(images: None) -> Iterator[Stack]:
    """The state machine in LocalStack, with functions, Batch and SageMaker, made as `make localstack-up` makes it."""
    require_docker()
    running = Stack(PROJECT, compose_environment(PROJECT, EXECUTORS="1"))
    profile = ("--profile", "stepfunctions")
    try:
        running.compose(*profile, "up", "--detach", *SERVICES)
        running.compose(*profile, "run", "--rm", "--entrypoint", MAKE_PIPELINE, "stepfunctions")
        yield running
    finally:
        running.compose(*profile, "down", "--volumes", "--timeout", "1")


@pytest.fixture
def pipeline(made_pipeline: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The pipeline, with the environment that points to it."""
    for name, value in s3_environment(made_pipeline.endpoint).items():
        monkeypatch.setenv(name, value)
    return made_pipeline


def on(name: str) -> Callable[[Job, Any], None]:
    return lambda job, _: run(job, name)


def run(job: Job, backend: Any) -> None:
    skyfan.run(job, on=backend, progress=False)


def by_rank(job: Job, _: None) -> None:
    """The commands that any scheduler can start, in an order of its own."""
    words = ["--dataset", job.dataset, "--model", job.model, "--output", job.output, "--world-size", str(RANKS)]
    size = ["--partition-size", str(job.partition_size_bytes), "--missing", job.missing[0]]
    done = CliRunner().invoke(app, ["plan", *words, *size, "--write"], catch_exceptions=False, standalone_mode=False)
    assert done.exception is None
    assert [run_rank_job(job.output, index=rank) for rank in (2, 0, 1)] == [0, 0, 0]
    CliRunner().invoke(app, ["aggregate", job.output, "--json"], catch_exceptions=False, standalone_mode=False)


def on_slurm(job: Job, _: Any) -> None:
    run(job, SlurmBackend(BackendSettings(slurm=SlurmOptions(memory="1GB"))))


def on_compose(job: Job, stack: Stack) -> None:
    words = (f"--dataset={job.dataset}", f"--model={job.model}", f"--world-size={RANKS}")
    size = (f"--partition-size={job.partition_size_bytes}", f"--missing={job.missing[0]}")
    stack.start_job(job.output, *words, *size).wait()


def on_step_functions(compute: Compute) -> Callable[[Job, Any], None]:
    return lambda job, _: run(job.model_copy(update={"compute": compute}), "localstack")


def rows(output: str) -> pa.Table:
    """All rows, in rank order."""
    folder = RunLedger(output)
    files = [pq.read_table(io.BytesIO(store.read(folder.predictions_uri(r)))) for r in sorted(folder.committed_ranks())]
    return pa.concat_tables(file.replace_schema_metadata(None) for file in files)


def given(sample: Sample, model: Path, output: Path | str) -> Job:
    """The job; for an output in S3 the dataset and the model lie there too."""
    paths = {sample.path: "", model: ""}
    for path in paths:
        paths[path] = f"s3://skyfan-data/agree/{path.name}" if str(output).startswith("s3://") else str(path)
        if paths[path] != str(path):
            store.copy_in(path, paths[path])
    return make_job(paths[sample.path], paths[model], output, world_size=RANKS, workers=2, missing="skip")


@pytest.fixture(scope="module")
def accounts() -> dict[str, Any]:
    """What the first backend accounted for."""
    return {}


class Agreement:
    """Runs the job on one backend after the other, and holds each against `model(x)` and against the first."""

    def __init__(self, sample: Sample, model: Path, expected_z: NDArray[np.float32], accounts: dict[str, Any]) -> None:
        self._sample, self._model, self._expected_z, self._accounts = sample, model, expected_z, accounts

    def check(self, start: Callable[[Job, Any], None], output: Path | str, place: Any = None) -> None:
        job = given(self._sample, self._model, output)
        start(job, place)
        assert_equal_z(rows(job.output), self._expected_z)
        summary = json.loads(store.read(RunFolder(job.output).summary_uri))
        account = {key: summary[key] for key in ACCOUNTED}
        first = self._accounts.setdefault("first", (account, summary["science"]))
        assert account == first[0]
        assert summary["science"] == pytest.approx(first[1], rel=1e-4, nan_ok=True)


@pytest.fixture
def agreement(
    sample: Sample, small_model: Path, expected_z: NDArray[np.float32], accounts: dict[str, Any]
) -> Agreement:
    return Agreement(sample, small_model, expected_z, accounts)


# A test a kind of place: what needs it is set up before the test, as the environment of a test ends with it.
@pytest.mark.parametrize("start", [on("process"), on("local"), by_rank], ids=["process", "local", "rank"])
def test_backends_agree(start: Callable[[Job, Any], None], agreement: Agreement, tmp_path: Path) -> None:
    agreement.check(start, tmp_path / "run")


def test_slurm_agrees(cluster: object, agreement: Agreement, tmp_path: Path) -> None:  # noqa: F811
    agreement.check(on_slurm, tmp_path / "run", cluster)


@pytest.mark.docker
def test_compose_agrees(stack: Stack, agreement: Agreement) -> None:
    agreement.check(on_compose, f"{RESULTS}/agree-compose", stack)


@pytest.mark.docker
@pytest.mark.parametrize("compute", ["lambda", "batch", "sagemaker"])
def test_step_functions_agree(compute: Compute, pipeline: Stack, agreement: Agreement) -> None:
    agreement.check(on_step_functions(compute), f"{RESULTS}/agree-{compute}", pipeline)


KILL = """
import os, signal, sys, time
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            told = open(f"/proc/{pid}/environ").read().split(chr(0))
            hosts = open(f"/proc/{pid}/cwd/config/resourceconfig.json").read() if "algo" in sys.argv[1] else ""
        except OSError:
            continue
        if sys.argv[1] in told or f'"current_host": "{sys.argv[1]}"' in hosts:
            os.kill(int(pid), signal.SIGKILL)
            sys.exit()
    time.sleep(0.02)
sys.exit("no such process")
"""


@pytest.mark.docker
@pytest.mark.parametrize(("compute", "victim"), [("batch", "AWS_BATCH_JOB_ARRAY_INDEX=1"), ("sagemaker", "algo-2")])
def test_a_killed_task_costs_its_ranks_and_the_same_again_computes_them(
    compute: Compute,
    victim: str,
    pipeline: Stack,
    sample: Sample,
    small_model: Path,
    expected_z: NDArray[np.float32],
) -> None:
    job = given(sample, small_model, f"{RESULTS}/killed-{compute}").model_copy(update={"compute": compute})
    (schedulers,) = pipeline.containers("schedulers")
    # The second of two tasks has the second of three ranks.
    killer = schedulers.client.api.exec_create(schedulers.id, ["python", "-c", KILL, victim])["Id"]
    schedulers.client.api.exec_start(killer, detach=True)
    with pytest.raises(SkyfanError, match="ranks 1 of 3 are missing"):
        run(job, "localstack")
    assert schedulers.client.api.exec_inspect(killer)["ExitCode"] == 0
    summary = json.loads(store.read(RunFolder(job.output).summary_uri))
    assert summary["completeness"]["ranks_present"] == 2
    assert summary["completeness"]["missing_ranks"] == [1]

    run(job, "localstack")
    assert_equal_z(rows(job.output), expected_z)
    summary = json.loads(store.read(RunFolder(job.output).summary_uri))
    assert (summary["state"], summary["reused_ranks"]) == ("complete", 2)
