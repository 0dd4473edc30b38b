"""Metrics of intervals and p(z), their errors and bins, against scipy, scikit-learn and a plain bootstrap."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import accuracy_score, confusion_matrix, mean_squared_error, r2_score

from skyfan.science.anomalies import most_unusual
from skyfan.science.classification import ClassTally
from skyfan.science.conformal import LEVEL, conformity_scores, half_width
from skyfan.science.metrics import delta_z
from skyfan.science.quality import Labelled, errors_of, in_bins, ks_test, metrics_of, poisson_weights, sigma68

RNG = np.random.default_rng(4)


def galaxies(count: int = 4000, sigma: float = 0.02) -> Labelled:
    z_spec = RNG.uniform(0.02, 0.4, count)
    z_pred = z_spec + RNG.normal(0, sigma, count) * (1 + z_spec)
    reach = sigma * (1 + z_pred)
    scores = {"z_low": z_pred - reach, "z_high": z_pred + reach, "pit": stats.norm.cdf(z_spec, z_pred, reach)}
    scores |= {"crps": RNG.random(count), "cde_loss": -RNG.random(count)}
    return Labelled(np.arange(count) * 3, z_pred, z_spec, {name: v.astype(np.float32) for name, v in scores.items()})


def test_metrics_are_scikit_learn_s_and_direct_ones():
    some = galaxies()
    found = metrics_of(some)
    assert found["mse"] == pytest.approx(mean_squared_error(some.z_spec, some.z_pred))
    assert found["r2"] == pytest.approx(r2_score(some.z_spec, some.z_pred))
    residual = delta_z(some.z_pred, some.z_spec)
    assert found["nmad"] == pytest.approx(1.48 * stats.median_abs_deviation(residual), rel=2e-3)  # or 1.4826
    assert found["sigma68"] == pytest.approx((np.percentile(residual, 84) - np.percentile(residual, 16)) / 2)
    inside = (some.z_spec >= some.scores["z_low"]) & (some.z_spec <= some.scores["z_high"])
    assert found["coverage"] == pytest.approx(inside.mean(), abs=1e-3)
    assert found["crps"] == pytest.approx(some.scores["crps"].mean(), rel=1e-5)


@pytest.mark.parametrize("count", [25, 1000, 20_000])
@pytest.mark.parametrize("power", [1.0, 1.03])
def test_the_ks_test_is_scipy_s(count: int, power: float):
    pit = RNG.random(count) ** power
    expected = stats.kstest(pit, "uniform")
    distance, probability = ks_test(pit)
    assert distance == pytest.approx(expected.statistic, rel=1e-9)
    assert probability == pytest.approx(expected.pvalue, abs=0.01)


def test_errors_are_those_of_a_plain_bootstrap():
    some = galaxies(2000)
    found = errors_of(some)
    plain = [metrics_of(some.take(RNG.integers(0, 2000, 2000))) for _ in range(300)]
    for name, error in found.items():
        expected = np.std([one[name] for one in plain], ddof=1)
        assert error == pytest.approx(expected, rel=0.35, abs=1e-9), name
    assert set(found) == set(metrics_of(some)) - {"samples"}


def test_errors_follow_from_the_rows_and_not_from_their_order_or_the_ranks():
    some = galaxies(500)
    shuffled = some.take(RNG.permutation(500))
    for name, error in errors_of(some).items():
        assert errors_of(shuffled)[name] == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("wild", [0.11, 1e25, 1e38])
@pytest.mark.parametrize("count", [3, 40])
def test_the_error_of_nmad_is_that_of_replicates_written_out(count: int, wild: float):
    """With ties, replicates in which no galaxy counts, and a prediction that is far off."""
    index, z_spec = np.arange(count), np.full(count, 0.1)
    z_pred = z_spec + RNG.integers(-3, 4, count) / 128
    z_pred[-1] = wild
    some = Labelled(index, z_pred, z_spec)
    residual, nmads = delta_z(some.z_pred, some.z_spec), []
    for weights in poisson_weights(index).T.astype(int):
        counted = np.sort(np.repeat(residual, weights))
        if not len(counted):
            nmads.append(0.0)
            continue
        lower = (len(counted) - 1) // 2
        nmads.append(1.48 * np.sort(np.abs(counted - counted[lower]))[lower])
    assert errors_of(some)["nmad"] == pytest.approx(np.std(nmads, ddof=1), rel=1e-12)


def test_rows_that_stand_for_more_have_the_errors_of_all():
    some = galaxies(4000)
    part = errors_of(some.take(slice(None, None, 4)), total=4000)
    assert part["bias"] == pytest.approx(errors_of(some)["bias"], rel=0.3)


def test_weights_are_poisson():
    weights = poisson_weights(np.arange(20_000))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)
    assert np.abs(np.corrcoef(weights[:, :10].T)[~np.eye(10, dtype=bool)]).max() < 0.03


def test_bins_hold_each_galaxy_once_and_have_its_metrics():
    some = galaxies(400)
    x = some.z_spec.copy()
    x[:7] = np.nan
    bins = in_bins(some, x)
    assert sum(one.metrics["samples"] for one in bins) == 393
    assert all(one.high <= other.low for one, other in itertools.pairwise(bins))
    inside = (x >= bins[1].low) & (x <= bins[1].high)
    assert bins[1].metrics["sigma68"] == pytest.approx(sigma68(delta_z(some.z_pred, some.z_spec)[inside]))
    assert in_bins(some.take(slice(0, 40)), x[:40]) == []


def test_calibrated_intervals_hold_their_part_of_other_galaxies():
    held = []
    for _ in range(200):
        error = RNG.standard_t(3, 500) * 0.02
        z_spec = RNG.uniform(0, 0.4, 500)
        z_pred = z_spec + error
        scores = conformity_scores(z_pred[:250], z_pred[:250], z_pred[:250], z_spec[:250])
        reach = half_width(scores) * (1 + z_pred[250:])
        held.append((np.abs(error[250:]) <= reach).mean())
    assert LEVEL - 0.01 < np.mean(held) < LEVEL + 0.02


def test_the_half_width_is_the_score_at_the_position_of_the_formula():
    assert half_width(RNG.permutation(np.arange(1.0, 75.0))) == 51  # of (74 + 1) * 0.68
    assert half_width(RNG.permutation(np.arange(1.0, 74.0))) == 51  # of (73 + 1) * 0.68 = 50.32


def test_unknown_redshifts_calibrate_nothing_and_too_few_are_refused():
    z = np.full(60, 0.1)
    z_spec = np.where(np.arange(60) < 49, 0.11, -99.0)
    scores = conformity_scores(z, z, z, z_spec)
    assert len(scores) == 49
    with pytest.raises(ValueError, match="49 galaxies"):
        half_width(scores)


def test_classes_are_counted_as_scikit_learn_counts_them():
    true, predicted = RNG.integers(-1, 3, 900), RNG.integers(0, 3, 900)
    confidence = RNG.uniform(0.34, 1, 900)
    tally = ClassTally(("a", "b", "c"))
    for part in np.array_split(np.arange(900), 7):
        tally.add(predicted[part], confidence[part], true[part])
    known = true >= 0
    np.testing.assert_array_equal(tally.confusion, confusion_matrix(true[known], predicted[known]))
    assert tally.accuracy == pytest.approx(accuracy_score(true[known], predicted[known]))
    assert tally.counts.tolist() == np.bincount(predicted).tolist()
    bins = np.minimum((confidence * 15).astype(int), 14)
    right = true == predicted
    expected = sum(
        abs(right[chosen].mean() - confidence[chosen].mean()) * chosen.sum()
        for number in range(15)
        if (chosen := known & (bins == number)).any()
    )
    assert tally.calibration_error == pytest.approx(expected / known.sum())


def test_the_most_unusual_are_scikit_learn_s_by_mahalanobis_distance():
    vectors = RNG.normal(0, [1, 5, 0.1], (600, 3)) + 100
    vectors[[17, 433]] += [[0, 0, 1], [9, 0, 0]]
    parts = np.array_split(np.arange(600), 5)
    found = most_unusual(lambda: ((part, vectors[part]) for part in parts), 3, 4)
    assert {one.index for one in found[:2]} == {17, 433}
    distance = np.sqrt(EmpiricalCovariance().fit(vectors).mahalanobis(vectors))
    assert found[0].distance == pytest.approx(distance[found[0].index], rel=0.05)
    assert most_unusual(lambda: iter([(parts[0], np.ones((120, 3)))]), 3, 4) == []
