"""One dataset and one model on every backend that needs no Docker: equal predictions, identical accounting."""

import json

import pytest
from typer.testing import CliRunner

import skyfan
from skyfan.backends.base import BackendSettings
from skyfan.backends.slurm.backend import SlurmBackend
from skyfan.backends.slurm.options import SlurmOptions
from skyfan.cli import app
from skyfan.serving.rank_job import run_rank_job
from tests.backends.slurm.conftest import _cluster, cluster  # noqa: F401 (fixtures)
from tests.e2e.support import assert_equal_z, make_job, predictions

RANKS = 3
ACCOUNTED = ("run_id", "state", "samples", "data_bytes", "world_size", "completeness", "failures", "reused_ranks")


def by_rank(job):
    """The commands that any scheduler can start, in an order of its own."""
    words = ["--dataset", job.dataset, "--model", job.model, "--output", job.output, "--world-size", str(RANKS)]
    size = ["--partition-size", str(job.partition_size_bytes), "--missing", job.missing[0]]
    done = CliRunner().invoke(app, ["plan", *words, *size, "--write"], catch_exceptions=False, standalone_mode=False)
    assert done.exception is None
    assert [run_rank_job(job.output, index=rank) for rank in (2, 0, 1)] == [0, 0, 0]
    CliRunner().invoke(app, ["aggregate", job.output, "--json"], catch_exceptions=False, standalone_mode=False)


def on_slurm(job):
    skyfan.run(job, on=SlurmBackend(BackendSettings(slurm=SlurmOptions(memory="1GB"))), progress=False)


def on(name):
    return lambda job: skyfan.run(job, on=name, progress=False)


@pytest.fixture(scope="module")
def accounts():
    """What the backends accounted for, by backend."""
    return {}


@pytest.mark.parametrize(
    ("name", "start"),
    [("process", on("process")), ("local", on("local")), ("rank", by_rank), ("slurm", on_slurm)],
)
def test_backends_agree(name, start, sample, small_model, expected_z, tmp_path, accounts, request):
    if name == "slurm":
        request.getfixturevalue("cluster")
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, world_size=RANKS, workers=2, missing="skip")
    start(job)
    assert_equal_z(predictions(output), expected_z)
    summary = json.loads((output / "summary.json").read_text())
    account = {key: summary[key] for key in ACCOUNTED} | {"science": summary["science"]}
    science = account.pop("science")
    first = accounts.setdefault("first", (account, science))
    assert account == first[0]
    assert science == pytest.approx(first[1], rel=1e-4, nan_ok=True)
