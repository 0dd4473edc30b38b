"""A study of two settings through the real pipeline, in one process, to tables and page."""

import json
from pathlib import Path

import pytest

from skyfan.cost import load_prices
from skyfan.study import Study, run_study
from skyfan.study.report import write_report
from skyfan.study.runner import PipelineRunner
from tests.conftest import SAMPLES, Sample
from tests.pipeline.support import run


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
    runner = PipelineRunner(str(sample.path), str(small_model), str(tmp_path / "work"), run)
    found = run_study(study, str(tmp_path / "study"), runner)
    assert sorted(sum(record["samples"] for record in one.records) for one in found) == [SAMPLES, 2 * SAMPLES]
    assert {one.summary["state"] for one in found} == {"complete"}
    assert Path(write_report(str(tmp_path / "study"), load_prices())).exists()
    experiments = (tmp_path / "study/tables/experiments.csv").read_text().splitlines()
    assert len(experiments) == 3
    assert json.loads((tmp_path / "study/study.json").read_text())["study"]["name"] == "tiny"
