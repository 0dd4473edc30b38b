"""What the report reads from the dataset: the right rows, not too many, and a note where there is nothing to read."""

from pathlib import Path

import numpy as np
import pytest

from skyfan import store
from skyfan.formats.torch import write_tensorfile
from skyfan.report import galaxies as module
from skyfan.report.cutouts import colour
from skyfan.report.galaxies import MAX_CUTOUTS, Observed, known_galaxies, observe
from tests.conftest import Sample, make_sample
from tests.report.runs import make_plan, make_predictions


def predicted(redshift: np.ndarray, **wrong: float):
    """Predictions that are true but for the samples named `at_<index>`, which are off by that much."""
    z_pred = redshift.copy()
    for name, error in wrong.items():
        z_pred[int(name.removeprefix("at_"))] += error
    return known_galaxies(make_predictions(z_pred, redshift))


def test_outliers_are_the_galaxies_of_the_largest_residuals(sample: Sample):
    seen = observe(make_plan(sample.path), predicted(sample.redshift, at_7=0.2, at_100=-0.5, at_40=0.1))
    assert [one.index for one in seen.outliers[:3]] == [100, 7, 40]
    assert len(seen.outliers) == MAX_CUTOUTS
    first = seen.outliers[0]
    np.testing.assert_array_equal(first.cutout, sample.image[100])
    assert first.r_magnitude == sample.magnitude[100, 2]
    assert first.residual == pytest.approx(-0.5 / (1 + sample.redshift[100]), rel=1e-4)
    assert seen.note == ""


def test_rows_are_found_in_the_file_that_holds_them(tmp_path: Path):
    parts = [make_sample(tmp_path / f"{number}.pt", samples=30 + number, seed=number) for number in range(3)]
    redshift = np.concatenate([part.redshift for part in parts])
    seen = observe(make_plan(tmp_path), predicted(redshift, at_30=0.2, at_62=-0.5))
    np.testing.assert_array_equal(seen.outliers[0].cutout, parts[2].image[1])
    np.testing.assert_array_equal(seen.outliers[1].cutout, parts[1].image[0])


def test_magnitudes_of_a_small_dataset_are_all_read_and_of_a_large_one_a_spread(sample: Sample, monkeypatch):
    known = predicted(sample.redshift)
    seen = observe(make_plan(sample.path), known)
    np.testing.assert_array_equal(seen.r_magnitude, sample.magnitude[known.index[seen.rows], 2])
    assert len(seen.rows) == 101
    monkeypatch.setattr(module, "MAX_MAGNITUDES", 20)
    monkeypatch.setattr(module, "MAX_MAGNITUDE_READS", 5)
    seen = observe(make_plan(sample.path), known)
    assert seen.rows.tolist() == [start + row for start in (0, 20, 40, 60, 80) for row in range(4)]
    np.testing.assert_array_equal(seen.r_magnitude, sample.magnitude[seen.rows, 2])


def test_samples_without_prediction_or_redshift_are_left_out(sample: Sample):
    z_pred, z_spec = sample.redshift.copy(), sample.redshift.copy()
    z_pred[3], z_spec[5] = np.nan, np.nan
    known = known_galaxies(make_predictions(z_pred, z_spec))
    assert set(range(101)) - set(known.index.tolist()) == {3, 5}
    seen = observe(make_plan(sample.path), known)
    np.testing.assert_array_equal(seen.r_magnitude, sample.magnitude[known.index, 2])
    assert known_galaxies(make_predictions(z_pred, np.full(101, np.nan, np.float32))) is None
    assert observe(make_plan(sample.path), None) == Observed()


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_a_dataset_that_is_gone_or_changed_is_noted(sample: Sample, what: str):
    plan = make_plan(sample.path)
    if what == "gone":
        sample.path.unlink()
    else:
        make_sample(sample.path, seed=4)
    seen = observe(plan, predicted(sample.redshift, at_7=0.2))
    assert "sky.pt" in seen.note
    assert seen.outliers[0].index == 7
    assert seen.outliers[0].cutout is None
    assert seen.r_magnitude is None


def test_tensors_that_are_no_cutouts_or_magnitudes_are_not_shown(tmp_path: Path):
    path = tmp_path / "flat.pt"
    redshift = np.linspace(0.1, 0.2, 10, dtype=np.float32)
    write_tensorfile(path, [np.ones((10, 3), np.float32)])
    seen = observe(make_plan(path), predicted(redshift))
    assert {(one.cutout, one.r_magnitude) for one in seen.outliers} == {(None, None)}
    assert (seen.rows, seen.note) == (None, "")


def test_reads_are_bounded(sample: Sample, monkeypatch):
    asked: list[int] = []
    real = module.read_batch

    def counting(uri, specs, start, stop, **more):
        asked.append(sum(spec.row_bytes for spec in specs) * (stop - start))
        return real(uri, specs, start, stop, **more)

    monkeypatch.setattr(module, "read_batch", counting)
    observe(make_plan(sample.path), predicted(sample.redshift))
    assert len(asked) == 2 * MAX_CUTOUTS + 1
    assert sum(asked) < store.head(sample.path).size_bytes / 3


def test_colours_are_red_for_i_and_blue_for_g():
    blob = np.exp(-((np.arange(32) - 16) ** 2) / 20)
    for band, channel in ((1, 2), (2, 1), (3, 0)):
        cutout = np.zeros((5, 32, 32))
        cutout[band] = np.outer(blob, blob)
        centre = colour(cutout)[16, 16]
        assert centre.argmax() == channel
        assert centre[channel] == 255
        assert centre.sum() == 255


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, 1e30])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_any_cutout_has_a_picture(bands: int, value: float):
    assert colour(np.full((bands, 8, 8), value, np.float32)).shape == (8, 8, 3)
