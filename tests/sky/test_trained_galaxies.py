"""A rendering, and a run of the packaged model, tell which galaxies that model was trained on."""

import numpy as np
import pytest

import skyfan
from skyfan.formats.torch import write_tensorfile
from skyfan.progress.summary_rows import summary_rows
from skyfan.progress.warnings import warnings
from skyfan.science.metrics import science_metrics
from skyfan.sky import load_catalog, subset_rows, training_rows
from tests.e2e.support import make_job
from tests.models.support import saved, tiny_model


def test_rows_of_each_subset_tell_whether_they_are_of_the_training_part():
    assert not training_rows(5000, "test").any()
    assert training_rows(5000, "train").all()
    assert np.flatnonzero(training_rows(5000, "all")).tolist() == subset_rows(5000, "train").tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("subset", "warned"), [("train", True), ("test", False)])
def test_a_run_of_the_packaged_model_over_its_training_galaxies_is_told(subset, warned, tmp_path):
    catalog = load_catalog()
    part = catalog.take(subset_rows(len(catalog), subset)[:300])
    image = np.zeros((300, 5, 32, 32), np.float32)
    write_tensorfile(tmp_path / "sky.pt", [image, part.magnitude.astype(np.float32), part.redshift.astype(np.float32)])
    run = skyfan.run(
        make_job(tmp_path / "sky.pt", "demo", tmp_path / "run", world_size=1), on="process", progress=False
    )
    assert any("trained on" in one for one in warnings(run.summary)) == warned
    assert run.predictions().column_names[-4:] == ["z_mean", "z_sigma", "z_weight", "missing"]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 3])
def test_metrics_of_the_galaxies_that_are_not_marked_are_given_apart(world_size, tmp_path):
    part = load_catalog().take(np.arange(300))
    rng = np.random.default_rng(5)
    marks = rng.random(300) < 0.03  # fewer than are noticed by their redshifts
    write_tensorfile(
        tmp_path / "sky.pt",
        [
            rng.normal(0, 1, (300, 5, 32, 32)).astype(np.float32),
            part.magnitude.astype(np.float32),
            (part.redshift + 1e-3).astype(np.float32),
            marks,
        ],
        attributes=("in_training_sample",),
    )
    job = make_job(tmp_path / "sky.pt", "demo", tmp_path / "run", world_size=world_size)
    summary = skyfan.run(job, on="process", progress=False).summary
    found = skyfan.open_run(tmp_path / "run").to_pandas()
    assert found["in_training_sample"].tolist() == marks.tolist()
    assert summary.trained_samples == marks.sum() > 0
    new = found[~marks]
    expected = science_metrics(new["z_pred"].to_numpy(), new["z_spec"].to_numpy())
    for name in ("samples", "bias", "nmad", "r2", "outlier_fraction_005"):
        assert summary.science_unseen[name] == pytest.approx(getattr(expected, name), rel=1e-6)
    assert summary.science["samples"] == 300
    assert summary.science_unseen_errors["nmad"] > 0
    assert ("metrics over galaxies the model was not trained on", f"{len(new)}") in summary_rows(summary)
    assert any("trained on" in one for one in warnings(summary))
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"of the {len(new)} not trained on" in page
    assert '<th scope="col">not trained on</th>' in page


@pytest.mark.slow
def test_other_models_know_none_of_the_marked_galaxies(tmp_path):
    (tmp_path / "tiny.pt").write_bytes(saved(tiny_model()))
    write_tensorfile(
        tmp_path / "sky.pt",
        [
            *(one.astype(np.float32) for one in (np.zeros((40, 5, 32, 32)), np.ones((40, 5)), np.ones(40))),
            np.ones(40, bool),
        ],
        attributes=("in_training_sample",),
    )
    job = make_job(tmp_path / "sky.pt", tmp_path / "tiny.pt", tmp_path / "run", world_size=1)
    summary = skyfan.run(job, on="process", progress=False).summary
    assert summary.trained_samples == 0
    assert summary.science_unseen is None


@pytest.mark.slow
def test_a_column_of_that_name_which_is_no_truth_value_is_the_users_own(tmp_path):
    arrays = [np.zeros((40, 5, 32, 32)), np.full((40, 5), 18), np.linspace(0.1, 0.2, 40) + 1e-4, np.ones((40, 2))]
    write_tensorfile(
        tmp_path / "sky.pt", [one.astype(np.float32) for one in arrays], attributes=("in_training_sample",)
    )
    job = make_job(tmp_path / "sky.pt", "demo", tmp_path / "run", world_size=1)
    summary = skyfan.run(job, on="process", progress=False).summary
    assert (summary.trained_samples, summary.science_unseen) == (0, None)
    assert "in_training_sample" not in skyfan.open_run(tmp_path / "run").predictions().column_names
