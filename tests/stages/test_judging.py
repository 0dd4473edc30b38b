"""What a summary says of metrics of a run of which not every row is held."""

import numpy as np
import pyarrow as pa
import pytest

from skyfan.job import DEMO_MODEL
from skyfan.report import galaxies
from skyfan.report.galaxies import MAX_CUTOUTS, Observed, RedshiftSample, known_galaxies
from skyfan.science.metrics import science_metrics
from skyfan.science.quality import ScoreSums
from skyfan.sky.sdss_catalog import load_catalog, subset_rows
from skyfan.stages.judging import judge
from skyfan.stages.merging import Merged
from tests.report.runs import make_plan

ROWS, HELD_PART = 40_000, 20


def test_errors_are_those_of_the_rows_that_a_metric_is_of(sample, monkeypatch):
    monkeypatch.setattr(galaxies, "MAX_SHOWN", ROWS // HELD_PART)
    random = np.random.default_rng(2)
    z_spec = random.uniform(0.02, 0.4, ROWS)
    z_pred = z_spec + random.normal(0, 0.02, ROWS) * (1 + z_spec)
    table = pa.table({"sample_index": np.arange(ROWS), "z_pred": z_pred, "z_spec": z_spec})
    redshifts, scores = RedshiftSample(ROWS), ScoreSums()
    redshifts.add(table)
    scores.add(known_galaxies(table))
    merged = Merged((), science_metrics(z_pred, z_spec), redshifts, None, scores)
    found = judge(make_plan(sample.path), merged, Observed())

    assert found["science_errors"]["bias"] == pytest.approx(0.02 / np.sqrt(ROWS), rel=0.3)
    held = sum(one.metrics["samples"] for one in found["science_bins"])
    assert ROWS // HELD_PART <= held <= ROWS // HELD_PART + MAX_CUTOUTS
    for one in found["science_bins"]:
        assert one.errors["bias"] == pytest.approx(0.02 / np.sqrt(one.metrics["samples"]), rel=0.4)
    # Of a normal distribution the error of σ68 is 1.15 times that of the mean.
    assert found["science_errors"]["sigma68"] == pytest.approx(1.15 * 0.02 / np.sqrt(held), rel=0.3)


def test_unseen_galaxies_of_which_none_is_held_are_counted(sample, monkeypatch):
    monkeypatch.setattr(galaxies, "MAX_SHOWN", 100)
    catalog = load_catalog()
    z_spec = np.resize(catalog.redshift[subset_rows(len(catalog), "train")].astype(np.float32), 2000).astype(np.float64)
    z_pred = z_spec + 0.01
    z_spec[7] = z_pred[7] = 0.5  # known to no training, and neither held nor among the worst
    pit = np.linspace(0, 1, 2000, dtype=np.float32)
    table = pa.table({"sample_index": np.arange(2000), "z_pred": z_pred, "z_spec": z_spec, "pit": pit})
    redshifts, scores = RedshiftSample(2000), ScoreSums()
    redshifts.add(table)
    scores.add(known_galaxies(table))
    plan = make_plan(sample.path)
    plan = plan.model_copy(update={"job": plan.job.model_copy(update={"model": DEMO_MODEL})})
    merged = Merged((), science_metrics(z_pred, z_spec), redshifts, None, scores, trained_samples=1999)
    found = judge(plan, merged, Observed())
    assert (found["science_unseen"], found["science_unseen_errors"]) == ({"samples": 1}, {})
