"""A study of two settings through the real pipeline, in one process, to tables and page."""

import json
from pathlib import Path

import boto3
import pytest

from skyfan.cost import load_prices
from skyfan.studies.bench import Study, run_study
from skyfan.studies.bench.runner import PipelineRunner
from skyfan.studies.bench.study_report import write_report
from tests.conftest import SAMPLES, Sample
from tests.moto_server import moto_server, point_to

BUCKET = "skyfan-study"


@pytest.mark.slow
def test_a_tiny_study_runs_repeated_data_and_is_reported(sample: Sample, small_model: Path, tmp_path: Path):
    study = Study(
        name="tiny",
        title="t",
        repetitions=1,
        warmup=0,
        grid={"repeat": (1, 2)},
        fixed={"on": "process", "partition_size": "1MB", "batch_size": 64, "workers": 1},
    )
    runner = PipelineRunner(str(sample.path), str(small_model), str(tmp_path / "work"))
    found = run_study(study, str(tmp_path / "study"), runner)
    assert sorted(sum(record["samples"] for record in one.records) for one in found) == [SAMPLES, 2 * SAMPLES]
    assert {one.summary["state"] for one in found} == {"complete"}
    assert Path(write_report(str(tmp_path / "study"), load_prices())).exists()
    experiments = (tmp_path / "study/tables/experiments.csv").read_text().splitlines()
    assert len(experiments) == 3
    assert json.loads((tmp_path / "study/study.json").read_text())["study"]["name"] == "tiny"


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A real S3 server in this process, the environment that points to it, and an empty bucket's client."""
    with moto_server() as url:
        point_to(url, monkeypatch, tmp_path / "none")
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.mark.slow
def test_data_are_reached_on_disk_and_in_s3_as_one_file_and_as_many(
    bucket, sample: Sample, small_model: Path, tmp_path: Path
):
    study = Study(
        name="access",
        title="t",
        repetitions=1,
        warmup=0,
        grid={"place": ("local", "s3"), "layout": ("one", "many")},
        fixed={"on": "process", "partition_size": "1MB", "workers": 1},
    )
    runner = PipelineRunner(str(sample.path), str(small_model), str(tmp_path / "work"), f"s3://{BUCKET}/study")
    found = run_study(study, str(tmp_path / "study"), runner)
    assert {sum(record["samples"] for record in one.records) for one in found} == {SAMPLES}
    for one in found:
        elsewhere = all(record["data_path"].startswith("s3://") for record in one.records)
        assert elsewhere == (one.setting.place == "s3")
    assert len(bucket.list_objects_v2(Bucket=BUCKET, Prefix="study/")["Contents"]) == 3  # sky.pt; 1.pt and 2.pt
    write_report(str(tmp_path / "study"), load_prices())
    rows = (tmp_path / "study/tables/data-access.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        ["local", "many"],
        ["local", "one"],
        ["s3", "many"],
        ["s3", "one"],
    ]
    assert (tmp_path / "study/figures/data-access.svg").exists()
