"""Pixels hold the measured flux, agree with GalSim's own drawing, and are as noisy as SDSS."""

import galsim
import numpy as np
import pytest

from skyfan.sky.profiles import Component, Shape
from skyfan.sky.render import render
from skyfan.sky.survey import (
    DARK_ELECTRONS_RMS,
    ELECTRONS_PER_NANOMAGGY,
    MOFFAT_BETA,
    PIXEL_ARCSEC,
    PSF_FWHM_ARCSEC,
    SKY_ELECTRONS,
    nanomaggies,
    observe,
)

MAGNITUDE = np.array([19.655096, 18.149183, 17.298376, 16.878389, 16.562674])
FLUX = nanomaggies(MAGNITUDE)


def galaxy(radius_arcsec: float = 2.0, fractions: tuple[float, ...] = (0.2, 0.27, 0.3, 0.32, 0.35)) -> Shape:
    return Shape(
        early=False,
        bulge=Component(3.0, 0.3 * radius_arcsec, 0.8),
        disc=Component(1.0, 1.2 * radius_arcsec, 0.4),
        bulge_fraction=np.array(fractions),
        half_light_arcsec=radius_arcsec,
        angle_rad=0.7,
    )


@pytest.mark.parametrize("fractions", [(0.2, 0.27, 0.3, 0.32, 0.35), (1.0,) * 5, (0.0,) * 5])
def test_flux_in_each_band_is_the_magnitude(fractions):
    image = render(galaxy(1.0, fractions), FLUX, stamp_pixels=512)
    measured_mag = 22.5 - 2.5 * np.log10(image.sum(axis=(1, 2)))
    np.testing.assert_allclose(measured_mag, MAGNITUDE, atol=0.005)


@pytest.mark.parametrize("radius_arcsec", [0.5, 3.0, 9.0])
def test_stamp_agrees_with_galsims_own_drawing(radius_arcsec):
    shape, offset = galaxy(radius_arcsec), (0.3, -0.4)
    image = render(shape, FLUX, seeing=1.1, offset_pixels=offset)
    angle = shape.angle_rad * galsim.radians
    bulge, disc = (
        galsim.Sersic(part.sersic_n, half_light_radius=part.half_light_arcsec).shear(q=part.axis_ratio, beta=angle)
        for part in (shape.bulge, shape.disc)
    )
    for band in (0, 3):
        share = shape.bulge_fraction[band]
        psf = galsim.Moffat(MOFFAT_BETA, fwhm=1.1 * PSF_FWHM_ARCSEC[band])
        whole = galsim.Convolve(FLUX[band] * (share * bulge + (1 - share) * disc), psf)
        expected = whole.drawImage(nx=32, ny=32, scale=PIXEL_ARCSEC, offset=offset).array
        np.testing.assert_allclose(image[band], expected, atol=3e-3 * expected.max())


def test_centre_is_redder_than_the_outskirts():
    image = render(galaxy(), FLUX)
    colour = -2.5 * np.log10(image[1] / image[2])
    assert colour[16, 16] > colour[16, 2] + 0.02


def test_noise_is_that_of_sky_and_detector_and_has_no_bias():
    observed = observe(np.zeros((5, 200, 200)), np.random.default_rng(2))
    expected = np.sqrt(SKY_ELECTRONS + DARK_ELECTRONS_RMS**2) / ELECTRONS_PER_NANOMAGGY
    assert observed.dtype == np.float32
    np.testing.assert_allclose(observed.std(axis=(1, 2)), expected, rtol=0.02)
    np.testing.assert_allclose(observed.mean(axis=(1, 2)) / expected, 0, atol=0.025)


def test_a_bright_source_adds_its_own_photon_noise():
    bright = observe(np.full((5, 200, 200), 100.0), np.random.default_rng(2))
    electrons = SKY_ELECTRONS + 100 * ELECTRONS_PER_NANOMAGGY + DARK_ELECTRONS_RMS**2
    np.testing.assert_allclose(bright.std(axis=(1, 2)), np.sqrt(electrons) / ELECTRONS_PER_NANOMAGGY, rtol=0.02)
