"""The camera of the SDSS imaging survey: pixels, seeing, sky, gain. Bands are in the order u g r i z.

Pixel scale: York et al. 2000, AJ 120, 1579. Gain, dark variance (readout and dark noise; medians of the six camera
columns), sky level and calibration are typical values of the survey's fields (SDSS DR7 flux calibration and
the DR8+ `frame` data model). The PSF width is the survey's effective width, 0.663 · pixel · √(nEff), for its
typical effective area nEff of 36.5, 32.2, 27.3, 24.9 and 26.0 pixels.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

PIXEL_ARCSEC: Final = 0.396
STAMP_PIXELS: Final = 32
PSF_FWHM_ARCSEC: Final = (1.586, 1.489, 1.371, 1.309, 1.338)
# ln-scatter of the seeing from field to field: r-band quartiles 1.30″ and 1.58″ (SDSS DR7 "Seeing and sky brightness").
SEEING_LN_SCATTER: Final = 0.145
# Moffat (1969) wing slope between the 2.5 of measured wings and the 4.765 of pure turbulence (Trujillo et al. 2001).
MOFFAT_BETA: Final = 3.5
ZERO_POINT_MAG: Final = 22.5

_GAIN_ELECTRONS_PER_COUNT = np.array([1.6, 3.925, 4.7225, 4.86, 4.76])
_DARK_VARIANCE_COUNTS2 = np.array([9.45625, 1.63125, 1.16125, 6.25, 1.105])
_SKY_NANOMAGGIES_PER_ARCSEC2 = np.array([1.33136, 1.70364, 4.35521, 8.10383, 25.3321])
_NANOMAGGIES_PER_COUNT = np.array([0.00981, 0.00378, 0.00507, 0.00662, 0.0337])

ELECTRONS_PER_NANOMAGGY: Final = _GAIN_ELECTRONS_PER_COUNT / _NANOMAGGIES_PER_COUNT
SKY_ELECTRONS: Final = _SKY_NANOMAGGIES_PER_ARCSEC2 * PIXEL_ARCSEC**2 * ELECTRONS_PER_NANOMAGGY
DARK_ELECTRONS_RMS: Final = np.sqrt(_DARK_VARIANCE_COUNTS2) * _GAIN_ELECTRONS_PER_COUNT


def nanomaggies(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flux of an AB magnitude; 22.5 mag is 1 nanomaggy (Finkbeiner et al. 2004, AJ 128, 2577)."""
    flux: NDArray[np.float64] = 10 ** (0.4 * (ZERO_POINT_MAG - magnitude))
    return flux


def observe(image: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """One exposure of a noise-free image [5, h, w], minus the mean sky; both in nanomaggies per pixel.

    Photons of galaxy and sky are Poisson distributed, detector noise is Gaussian. Returns float32 [5, h, w].
    """
    per_nanomaggy = ELECTRONS_PER_NANOMAGGY[:, None, None]
    sky = SKY_ELECTRONS[:, None, None]
    expected = np.clip(image, 0, None) * per_nanomaggy + sky
    dark = rng.standard_normal(image.shape) * DARK_ELECTRONS_RMS[:, None, None]
    observed: NDArray[np.float32] = ((rng.poisson(expected) + dark - sky) / per_nanomaggy).astype(np.float32)
    return observed
