"""A rendering, and a run of the packaged model, tell how many galaxies that model was trained on."""

import numpy as np
import pytest

import skyfan
from skyfan.formats.torch import write_tensorfile
from skyfan.progress.warnings import warnings
from skyfan.sky import load_catalog, subset_rows, trained_galaxies
from tests.e2e.support import make_job


def test_galaxies_beyond_the_catalogue_are_counted_by_their_rows():
    assert trained_galaxies(5000, "test", 3000) == 0
    assert trained_galaxies(5000, "train", 9000) == 9000
    assert trained_galaxies(5000, "all", 10_000) == 8000


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
