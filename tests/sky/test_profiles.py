"""Shapes follow the distributions that they are said to follow."""

import math

import galsim
import numpy as np
import pytest

from skyfan.sky.cosmology import comoving_distance_mpc, distance_modulus, kpc_per_arcsec
from skyfan.sky.profiles import absolute_magnitude_r, composite_radius, draw_radius_kpc, draw_shape
from skyfan.sky.sdss_catalog import load_catalog

RED = np.array([20.0, 18.0, 17.0, 16.6, 16.3])
BLUE = np.array([18.5, 17.4, 17.0, 16.8, 16.7])


def shapes(magnitude: np.ndarray, z: float, count: int = 400) -> list:
    rng = np.random.default_rng(1)
    return [draw_shape(magnitude, z, rng) for _ in range(count)]


def test_distances_match_published_values():
    # Wright 2006 (PASP 118, 1711) calculator, H0 = 70, Ωm = 0.3, flat: z = 0.1 and z = 1.
    assert comoving_distance_mpc(0.1) == pytest.approx(418.5, abs=0.2)
    assert comoving_distance_mpc(1.0) == pytest.approx(3303.8, abs=0.5)
    assert kpc_per_arcsec(0.1) == pytest.approx(1.844, abs=0.002)
    assert distance_modulus(0.1) == pytest.approx(38.315, abs=0.003)


def test_k_correction_of_a_red_galaxy_is_a_tenth_of_a_magnitude_at_z_01():
    bare = RED[2] - distance_modulus(0.1)
    assert bare - absolute_magnitude_r(RED, 0.1) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("luminosity_mag", "early", "kpc"), [(-22.5, True, 6.17), (-20.5, True, 1.86), (-20.5, False, 3.12)]
)
def test_median_radius_is_the_size_luminosity_relation(luminosity_mag, early, kpc):
    rng = np.random.default_rng(3)
    radii = [draw_radius_kpc(luminosity_mag, early, rng) for _ in range(4000)]
    assert np.median(radii) == pytest.approx(kpc, rel=0.04)


def test_red_galaxies_are_more_concentrated_and_blue_ones_are_discs():
    red, blue = shapes(RED, 0.1), shapes(BLUE, 0.1)
    assert np.mean([shape.early for shape in red]) > 0.9
    assert np.mean([shape.early for shape in blue]) < 0.1
    assert np.mean([shape.bulge_fraction[2] for shape in red]) > 0.6
    assert np.mean([shape.bulge_fraction[2] for shape in blue]) < 0.3


def test_bulges_are_redder_than_their_discs():
    for shape in shapes(BLUE, 0.1, 50):
        assert np.all(np.diff(shape.bulge_fraction) >= 0)  # u g r i z: the bulge's share grows to the red


def test_apparent_size_shrinks_with_distance_and_grows_with_brightness():
    near, far = shapes(RED, 0.03), shapes(RED + 3.5, 0.15)
    size = np.median([shape.half_light_arcsec for shape in near]), np.median([shape.half_light_arcsec for shape in far])
    assert size[0] > 1.5 * size[1]


@pytest.mark.parametrize(("fraction", "index", "ratio"), [(0.3, 4.0, 0.13), (0.6, 2.0, 0.3), (1.0, 4.0, 0.5)])
def test_composite_radius_holds_half_of_the_light(fraction, index, ratio):
    radius = composite_radius(fraction, index, ratio)
    bulge = galsim.Sersic(index, half_light_radius=ratio)
    disc = galsim.Sersic(1, half_light_radius=1.0)
    inside = fraction * bulge.calculateIntegratedFlux(radius) + (1 - fraction) * disc.calculateIntegratedFlux(radius)
    assert inside == pytest.approx(0.5, abs=0.005)


def test_every_catalogue_galaxy_gets_a_drawable_shape():
    catalog = load_catalog()
    rng = np.random.default_rng(5)
    for magnitude, z in zip(catalog.magnitude[::10], catalog.redshift[::10], strict=True):
        shape = draw_shape(magnitude, float(z), rng)
        assert 0.05 <= shape.half_light_arcsec <= 30
        for part in (shape.bulge, shape.disc):
            assert 0.1 <= part.axis_ratio <= 1
            assert part.half_light_arcsec > 0
            assert math.isfinite(part.sersic_n)
