"""Which data and job a cell's setting becomes; the run itself is tested with the pipeline."""

from pathlib import Path

import numpy as np
import pytest

from skyfan.api import Job, Run
from skyfan.errors import BadInput, LocationError, SkyfanError
from skyfan.formats.torch import open_tensorfile, write_tensorfile
from skyfan.studies.bench import Setting, load_study
from skyfan.studies.bench.runner import QUICK_SAMPLES, PipelineRunner, quick_repeats


class Started(SkyfanError):
    """The job reached the pipeline."""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "sky.pt"
    write_tensorfile(str(path), [np.ones((100, 5, 32, 32), np.float32), np.ones((100, 5), np.float32)])
    return path


def started(dataset: str, tmp_path: Path, s3: str | None = None, **setting: object) -> Job:
    jobs: list[Job] = []

    def run_job(job: Job, on: str) -> Run:
        jobs.append(job)
        raise Started(on)

    runner = PipelineRunner(dataset, "model", str(tmp_path / "work"), s3, run_job)
    with pytest.raises(Started, match="process"):
        runner(Setting.model_validate({"on": "process", **setting}), str(tmp_path / "run"))
    return jobs[0]


def test_a_plain_setting_is_the_dataset_itself(dataset, tmp_path):
    job = started(str(dataset), tmp_path, batch_size=64, workers=3, file_limit=2, world_size=4)
    assert job.dataset == str(dataset)
    assert (job.options.batch_size, job.workers, job.file_limit, job.world_size) == (64, 3, 2, 4)
    assert (job.partition_size_bytes, job.resume) == (25 * 2**20, False)


def test_repeating_links_the_files_and_is_done_once(dataset, tmp_path):
    job = started(str(dataset), tmp_path, repeat=3)
    files = sorted(Path(job.dataset).iterdir())
    assert [path.name for path in files] == ["1.pt", "2.pt", "3.pt"]
    assert {path.stat().st_ino for path in files} == {dataset.stat().st_ino}
    assert started(str(dataset), tmp_path, repeat=3).dataset == job.dataset


def test_many_files_are_whole_partitions(dataset, tmp_path):
    job = started(str(dataset), tmp_path, layout="many", partition_size="1MB", repeat=2)
    samples = [open_tensorfile(str(path)).samples for path in Path(job.dataset).iterdir()]
    assert sorted(samples) == [49, 49, 51, 51]
    assert job.partition_size_bytes is None


def test_what_cannot_be_prepared_is_said(dataset, tmp_path):
    never = lambda job, on: pytest.fail("started")  # noqa: E731
    runner = PipelineRunner(str(dataset), "m", str(tmp_path / "work"), run_job=never)
    with pytest.raises(LocationError, match="--s3"):
        runner(Setting(place="s3"), str(tmp_path / "run"))
    runner = PipelineRunner(
        str(tmp_path / "none"), "m", str(tmp_path / "w"), run_job=lambda job, on: pytest.fail("started")
    )
    with pytest.raises(BadInput, match="none"):
        runner(Setting(repeat=2), str(tmp_path / "run"))


def test_a_quick_study_takes_small_data_often_enough_that_inference_dominates(dataset):
    times = quick_repeats(str(dataset))
    assert 100 * (times - 1) < QUICK_SAMPLES <= 100 * times
    assert {one.repeat for one in load_study("batch-size", quick=True).enlarged(times).settings()} == {times}
    assert {one.repeat for one in load_study("data-size", quick=True).enlarged(3).settings()} == {3, 6}
