"""Redshift distributions against scipy, against numerical integration, and against qp."""

import numpy as np
import pytest
from scipy import stats

from skyfan.pz_form import PzForm, parse_pz
from skyfan.science.pz import Distributions, distributions, normal_cdf, normalised

GALAXIES = 40
RNG = np.random.default_rng(11)
FINE = np.linspace(-3, 6, 9001)
Z = RNG.uniform(0.2, 1.8, GALAXIES)


def mixtures() -> tuple[np.ndarray, ...]:
    means = RNG.uniform(0.3, 1.6, (GALAXIES, 3))
    return means, RNG.uniform(0.03, 0.2, (GALAXIES, 3)), RNG.uniform(0.1, 2.0, (GALAXIES, 3))


def forms() -> dict[str, tuple[PzForm, tuple[np.ndarray, ...]]]:
    means, sigmas, weights = mixtures()
    grid = np.linspace(0, 2, 201)
    density = (weights[..., None] * stats.norm.pdf(grid, means[..., None], sigmas[..., None])).sum(axis=1)
    bins = RNG.uniform(0, 1, (GALAXIES, 50))
    levels = "quantiles=0.05:0.2:0.5:0.8:0.95"
    quantiles = np.cumsum(RNG.uniform(0.1, 0.4, (GALAXIES, 5)), axis=1)
    draws = stats.norm.ppf((np.arange(64) + 0.5) / 64, 1, RNG.uniform(0.1, 0.3, (GALAXIES, 1)))
    return {
        "mixture": (parse_pz("mixture"), (means, sigmas, weights)),
        "grid": (parse_pz("grid=0:2:201"), (7 * density,)),
        "bins": (parse_pz("bins=0:2:50"), (bins,)),
        "quantiles": (parse_pz(levels), (quantiles,)),
        "samples": (parse_pz("samples"), (RNG.permuted(draws, axis=1),)),
    }


FORMS = forms()


def of(name: str) -> Distributions:
    form, parts = FORMS[name]
    ready, valid = normalised(form, parts)
    assert valid.all()
    return distributions(form, ready)


def curves(pz: Distributions, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Density and cumulative distribution of one galaxy at the points of `FINE`."""

    def repeated(value: object) -> object:
        if not isinstance(value, np.ndarray) or len(value) == 1:
            return value
        return np.repeat(value[row : row + 1], len(FINE), axis=0)

    one = type(pz)(**{name: repeated(value) for name, value in vars(pz).items()})
    return one.density(FINE), one.cdf(FINE)


def test_the_normal_distribution_is_scipy_s():
    x = np.linspace(-9, 9, 2001)
    np.testing.assert_allclose(normal_cdf(x), stats.norm.cdf(x), atol=1e-7)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_agrees_with_integrals_over_its_own_curve(name: str):
    pz = of(name)
    z = FINE
    for row in (0, 7):
        density, cumulative = curves(pz, row)
        assert np.trapezoid(density, z) == pytest.approx(1, abs=0.01)
        step = np.trapezoid((cumulative - (z >= Z[row])) ** 2, z)
        assert pz.crps(Z)[row] == pytest.approx(step, abs=0.006)
        assert pz.mean()[row] == pytest.approx(np.trapezoid(z * density, z), abs=0.006)
        loss = np.trapezoid(density**2, z) - 2 * pz.density(Z)[row]
        assert pz.cde_loss(Z)[row] == pytest.approx(loss, rel=0.02, abs=0.02)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("level", [0.05, 0.16, 0.5, 0.84, 0.95])
def test_a_quantile_is_where_the_cumulative_distribution_is_its_level(name: str, level: float):
    pz = of(name)
    np.testing.assert_allclose(pz.cdf(pz.quantile(level)), level, atol=1e-6)


def test_a_mixture_of_one_is_the_normal_distribution():
    mean, sigma = Z[:, None], np.full((GALAXIES, 1), 0.1)
    pz = distributions(parse_pz("mixture"), (mean, sigma, np.ones_like(mean)))
    np.testing.assert_allclose(pz.quantile(0.84), stats.norm.ppf(0.84, Z, 0.1), atol=1e-6)
    np.testing.assert_allclose(pz.mode(), Z)
    # CRPS of a normal distribution at its mean: sigma (√2 − 1)/√π (Gneiting & Raftery 2007, JASA 102, 359).
    np.testing.assert_allclose(pz.crps(Z), 0.1 * (np.sqrt(2) - 1) / np.sqrt(np.pi), atol=1e-6)
    np.testing.assert_allclose(pz.odds(Z), 2 * stats.norm.cdf(0.3 * (1 + Z)) - 1, atol=1e-6)


@pytest.mark.parametrize("name", ["mixture", "grid"])
def test_the_mode_is_the_highest_point(name: str):
    pz, mode = of(name), of(name).mode()
    top = pz.density(mode)
    for z in np.linspace(0, 2, 401):
        assert (pz.density(np.full(GALAXIES, z)) <= top + 1e-9 + 1e-4 * top).all()


@pytest.mark.parametrize("name", ["mixture", "grid", "bins"])
def test_quantiles_pit_and_density_are_qp_s(name: str):
    qp = pytest.importorskip("qp")
    form, parts = FORMS[name]
    ready, _ = normalised(form, parts)
    if name == "mixture":
        ensemble = qp.Ensemble(qp.mixmod, {"means": ready[0], "stds": ready[1], "weights": ready[2]})
    elif name == "grid":
        ensemble = qp.Ensemble(qp.interp, {"xvals": np.linspace(0, 2, 201), "yvals": ready[0]})
    else:
        ensemble = qp.Ensemble(qp.hist, {"bins": np.linspace(0, 2, 51), "pdfs": ready[0]})
    pz = distributions(form, ready)
    for level in (0.16, 0.5, 0.84):
        np.testing.assert_allclose(
            pz.quantile(level), ensemble.ppf(level)[:, 0], atol=2e-3 if name == "mixture" else 1e-6
        )
    pit = [np.ravel(ensemble[row].cdf(Z[row]))[0] for row in range(GALAXIES)]
    np.testing.assert_allclose(pz.cdf(Z), pit, atol=1e-6)
    density = [np.ravel(ensemble[row].pdf(Z[row]))[0] for row in range(GALAXIES)]
    np.testing.assert_allclose(pz.density(Z), density, rtol=1e-5)


def test_draws_in_any_order_have_the_quantiles_of_their_sorted_values():
    draws = RNG.normal(1, 0.1, (1, 999))
    ready, _ = normalised(parse_pz("samples"), (draws,))
    pz = distributions(parse_pz("samples"), ready)
    assert pz.quantile(0.5)[0] == pytest.approx(np.median(draws))
    assert abs(pz.mode()[0] - 1) < 0.05


@pytest.mark.parametrize(
    ("name", "part", "wrong"),
    [("mixture", 1, 0.0), ("mixture", 2, -0.1), ("grid", 0, -1e-3), ("bins", 0, np.nan), ("samples", 0, np.inf)],
)
def test_rows_that_are_no_distributions_are_told_and_leave_the_others_as_they_are(name: str, part: int, wrong: float):
    form, parts = FORMS[name]
    changed = tuple(array.copy() for array in parts)
    changed[part][3, 0] = wrong
    ready, valid = normalised(form, changed)
    assert np.flatnonzero(~valid).tolist() == [3]
    with np.errstate(all="raise", under="ignore"):
        median = distributions(form, ready).quantile(0.5)
    assert np.isfinite(median).all()
    np.testing.assert_array_equal(np.delete(median, 3), np.delete(of(name).quantile(0.5), 3))


def test_an_empty_grid_is_no_distribution():
    ready, valid = normalised(parse_pz("grid=0:3:301"), (np.zeros((2, 301)),))
    assert not valid.any()
    np.testing.assert_allclose(distributions(parse_pz("grid=0:3:301"), ready).mean(), 1.5)


@pytest.mark.parametrize(
    "text",
    ["", "grid", "grid=0:3", "grid=3:0:10", "grid=0:3:1", "grid=0:3:1e9", "grid=0:nan:3", "mixture=3", "samples=",
     "quantiles=0.5", "quantiles=0.9:0.1", "quantiles=0:1", "bins=0:3:0", "bins=a:b:c", "hist=0:3:10", "grid=0:3:2.5"],
)  # fmt: skip
def test_text_that_is_no_form_is_refused(text: str):
    with pytest.raises(ValueError, match=r"write|number"):
        parse_pz(text)


@pytest.mark.parametrize("text", ["grid=0:3:301", "bins=0:0.4:180", "mixture", "quantiles=0.16:0.5:0.84", "samples"])
def test_a_form_is_written_as_it_is_read(text: str):
    assert str(parse_pz(text)) == text
