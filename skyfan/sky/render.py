"""Pixels of a galaxy: GalSim evaluates the profiles in Fourier space once; each band adds its PSF and fluxes."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import BadInput
from skyfan.sky.profiles import Component, Shape
from skyfan.sky.survey import MOFFAT_BETA, PIXEL_ARCSEC, PSF_FWHM_ARCSEC, STAMP_PIXELS

if TYPE_CHECKING:
    import galsim

# The transform wraps round: a copy of the galaxy lies this many pixels away, and must be faint in the stamp.
_GRID_PIXELS, _LARGE_GRID_PIXELS = 128, 256
_LARGE_RADIUS_ARCSEC = 6.0


def render(
    shape: Shape,
    flux: NDArray[np.float64],
    seeing: float = 1.0,
    offset_pixels: tuple[float, float] = (0.0, 0.0),
    stamp_pixels: int = STAMP_PIXELS,
) -> NDArray[np.float64]:
    """Noise-free image [5, stamp_pixels, stamp_pixels] in nanomaggies per pixel.

    `flux` [5] is the total flux per band in nanomaggies, including the part outside the stamp. `seeing` scales the
    survey's typical PSF width. `offset_pixels` (x, y) moves the galaxy away from the stamp's centre.

    Raises:
        BadInput: GalSim is not installed.
    """
    size = _LARGE_GRID_PIXELS if shape.half_light_arcsec > _LARGE_RADIUS_ARCSEC else _GRID_PIXELS
    size = max(size, 2 * stamp_pixels)
    bulge = _transform(_profile(shape.bulge, shape.angle_rad), size)
    disc = _transform(_profile(shape.disc, shape.angle_rad), size)
    placed = _placement(size, offset_pixels, stamp_pixels)
    image = np.empty((5, stamp_pixels, stamp_pixels))
    for band, fwhm_arcsec in enumerate(PSF_FWHM_ARCSEC):
        share = shape.bulge_fraction[band]
        psf = _transform(_galsim().Moffat(MOFFAT_BETA, fwhm=seeing * fwhm_arcsec), size)
        spectrum = flux[band] * (share * bulge + (1 - share) * disc) * psf * placed
        image[band] = np.fft.irfft2(spectrum, s=(size, size))[:stamp_pixels, :stamp_pixels]
    return image


def _profile(component: Component, angle_rad: float) -> "galsim.GSObject":
    galsim = _galsim()
    if component.sersic_n == 1:
        round_profile = galsim.Exponential(half_light_radius=component.half_light_arcsec)
    else:
        round_profile = galsim.Sersic(component.sersic_n, half_light_radius=component.half_light_arcsec)
    return round_profile.shear(q=component.axis_ratio, beta=angle_rad * galsim.radians)


def _transform(profile: "galsim.GSObject", size: int) -> NDArray[np.float64]:
    """The profile's Fourier transform in the layout of `irfft2`, [size, size/2 + 1]; real, as profiles are even."""
    galsim = _galsim()
    half = size // 2
    image = galsim.ImageCD(galsim.BoundsI(0, half, -half, half - 1))
    profile.drawKImage(image, scale=2 * np.pi / (size * PIXEL_ARCSEC), recenter=False)
    transform: NDArray[np.float64] = np.fft.ifftshift(image.array.real, axes=0)
    return transform


def _placement(size: int, offset_pixels: tuple[float, float], stamp_pixels: int) -> NDArray[np.complex128]:
    """Transform of the pixel response (a square) and of the shift from the grid's corner to the galaxy's position."""
    cycles_x, cycles_y = np.fft.rfftfreq(size), np.fft.fftfreq(size)
    centre = (stamp_pixels - 1) / 2
    along_x = np.sinc(cycles_x) * np.exp(-2j * np.pi * cycles_x * (centre + offset_pixels[0]))
    along_y = np.sinc(cycles_y) * np.exp(-2j * np.pi * cycles_y * (centre + offset_pixels[1]))
    placed: NDArray[np.complex128] = along_y[:, None] * along_x[None, :]
    return placed


@lru_cache(maxsize=1)
def _galsim() -> Any:
    """The module GalSim, which is an extra: only simulating needs it."""
    try:
        import galsim
    except ImportError as error:
        raise BadInput("simulating galaxies needs GalSim; install it with: pip install 'skyfan[sky]'.") from error
    return galsim
