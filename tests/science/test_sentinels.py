"""Numbers that mean "not measured" are unknown, wherever they are met."""

import numpy as np
import pytest
import torch

from skyfan.curation import clean, inspect
from skyfan.science.metrics import delta_z, metrics_of_sums, science_metrics, science_sums
from skyfan.science.sentinels import known_redshifts, sentinels

Z_PRED = np.array([0.11, 0.19, 0.31, 0.4])


@pytest.mark.parametrize("unknown", [-1.0, -9.0, -99.0, np.nan])
def test_a_redshift_of_minus_one_or_less_is_unknown(unknown):
    z_spec = np.array([0.1, 0.2, 0.3, unknown])
    assert np.isnan(known_redshifts(z_spec)).tolist() == [False, False, False, True]
    assert np.isnan(delta_z(Z_PRED, z_spec)).tolist() == [False, False, False, True]
    metrics, without = science_metrics(Z_PRED, z_spec), science_metrics(Z_PRED[:3], z_spec[:3])
    assert metrics == without
    assert metrics is not None
    of_sums = metrics_of_sums(science_sums(Z_PRED, z_spec))
    assert of_sums is not None
    assert (of_sums.samples, of_sums.r2) == (3, pytest.approx(metrics.r2))


def test_a_negative_redshift_of_a_blueshifted_galaxy_is_known():
    assert known_redshifts(np.array([-0.001])).tolist() == [-0.001]


def test_magnitudes_of_99_are_sentinels_and_nan_is_not():
    values = np.array([20.0, 99.0, -99.0, 99.9, np.nan, np.inf])
    assert sentinels("magnitude", values).tolist() == [False, True, True, True, False, False]
    assert not sentinels("image", values).any()


@pytest.fixture
def dataset(tmp_path):
    """Six galaxies: whole, not detected, not observed, infinite, NaN, and without a redshift."""
    magnitude = torch.full((6, 5), 20.0)
    magnitude[1, 0], magnitude[2, 0], magnitude[3, 0], magnitude[4, 0] = 99, -99, torch.inf, torch.nan
    redshift = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, -9.0])
    path = tmp_path / "sky.pt"
    torch.save({"image": torch.rand(6, 5, 4, 4), "magnitude": magnitude, "redshift": redshift}, path)
    return path


def test_inspect_and_clean_flag_the_same_values(dataset, tmp_path):
    report = {tensor.name: tensor for tensor in inspect(dataset).tensors}
    assert (report["magnitude"].sentinel_values, report["redshift"].sentinel_values) == (2, 1)
    assert (report["magnitude"].minimum, report["magnitude"].maximum) == (20.0, 20.0)
    assert report["redshift"].minimum == pytest.approx(0.1)
    dropped = clean(dataset, tmp_path / "clean.pt").dropped
    assert dropped["magnitude unknown (|m| ≥ 99)"] == [1, 2]
    assert dropped["redshift unknown (z ≤ −1)"] == [5]
