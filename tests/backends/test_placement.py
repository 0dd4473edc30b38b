"""Where a job runs by default follows cores, memory, GPUs and the size of the job."""

import pytest

import skyfan
from skyfan.backends import placement
from skyfan.backends.placement import Machine, Placement, dataset_bytes, executors, place, place_job
from tests.e2e.support import make_job

GB = 2**30


@pytest.mark.parametrize(
    ("cores", "memory_gb", "gpus", "data_gb", "expected"),
    [
        (2, 16, 0, 100, 1),  # two cores: one process fills them
        (64, 256, 0, 0.01, 1),  # a small job is over before executors have started
        (64, 256, 0, 100, 8),
        (64, 4, 0, 100, 4),  # memory holds no more
        (64, None, 0, 3, 3),  # three of them have something to do
        (16, 128, 1, 100, 1),
        (64, 512, 8, 1000, 8),  # one a GPU, whatever the cores
        (64, 8, 8, 1000, 2),
        (1, 0, 0, 100, 1),  # never less than one
    ],
)
def test_executors_are_as_many_as_the_machine_feeds_and_the_job_keeps_busy(
    cores: int, memory_gb: float | None, gpus: int, data_gb: float, expected: int
):
    memory_bytes = None if memory_gb is None else int(memory_gb * GB)
    assert executors(Machine(cores, memory_bytes, gpus), int(data_gb * GB)) == expected


def test_one_executor_is_this_process_and_what_the_user_asks_for_holds():
    small, large = Machine(2, 8 * GB, 0), Machine(64, 256 * GB, 0)
    assert place(small, 100 * GB) == Placement("process", 1)
    assert place(large, 100 * GB) == Placement("local", 8)
    assert place(small, 0, workers=3) == Placement("local", 3)
    assert place(large, 100 * GB, workers=1) == Placement("process", 1)
    assert place(small, 0, collectives=True) == Placement("local", 2)


def test_the_size_of_a_dataset_is_that_of_its_files(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.pt").write_bytes(bytes(100))
    assert dataset_bytes(str(tmp_path)) == 300
    assert dataset_bytes(str(tmp_path / "0.pt")) == 100
    assert dataset_bytes(str(tmp_path / "none.pt")) == 0


@pytest.mark.parametrize("said", [{"workers": 1}, {"workers": 3}, {"collectives": True}])
def test_a_dataset_is_not_listed_for_a_job_that_says_how_many(said, monkeypatch):
    monkeypatch.setattr(placement, "dataset_bytes", lambda uri: pytest.fail(f"{uri} was listed"))
    assert place_job(skyfan.Job(dataset="s3://bucket/large/", **said)).workers == said.get("workers", 2)


@pytest.mark.slow
def test_a_small_job_runs_in_this_process_and_its_summary_names_where(sample, small_model, tmp_path):
    run = skyfan.run(make_job(sample.path, small_model, tmp_path / "run"), progress=False)
    assert run.summary.target == "process"
    assert run.summary.environment["threads"] == [1]
    assert run.summary.environment["devices"] == ["cpu"]
