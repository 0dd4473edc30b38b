"""The shape of a galaxy, drawn at random for its measured magnitudes and redshift.

Each function names the source of its distribution; `docs/explanation/simulated-sky.md` lists which numbers are
the papers' and which are ours.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from skyfan.sky.cosmology import distance_modulus, kpc_per_arcsec

_U, _G, _R = 0, 1, 2

# Strateva et al. 2001, AJ 122, 1861: u − r = 2.22 separates early from late types; the width is ours.
_TYPE_COLOUR_MAG, _TYPE_WIDTH_MAG = 2.22, 0.2
# Bulge r_e / disc scale length: Graham & Worley 2008, MNRAS 388, 1708; half-light radius = 1.678 scale lengths.
_BULGE_TO_DISC_RADIUS, _BULGE_TO_DISC_LN_SCATTER = 0.22 / 1.678, 0.35
# (bulge − disc) colour of a late type, band − r: bulges redder (Kennedy et al. 2016, MNRAS 460, 3458); sizes are ours.
_BULGE_COLOUR_MAG = np.array([0.50, 0.20, 0.0, -0.10, -0.15])
_MIN_RADIUS_ARCSEC, _MAX_RADIUS_ARCSEC = 0.05, 30.0


@dataclass(frozen=True)
class Component:
    """A Sérsic profile; the half-light radius is the circularised one, √(a·b)."""

    sersic_n: float
    half_light_arcsec: float
    axis_ratio: float


@dataclass(frozen=True)
class Shape:
    """Bulge and disc with one position angle; `bulge_fraction` [5] is the bulge's share of the flux per band."""

    early: bool
    bulge: Component
    disc: Component
    bulge_fraction: NDArray[np.float64]
    half_light_arcsec: float
    angle_rad: float


def draw_shape(magnitude: NDArray[np.float64], z: float, rng: np.random.Generator) -> Shape:
    """A random shape for a galaxy with AB magnitudes [5] (u g r i z) at redshift z > 0."""
    luminosity_mag = absolute_magnitude_r(magnitude, z)
    redness = (magnitude[_U] - magnitude[_R] - _TYPE_COLOUR_MAG) / _TYPE_WIDTH_MAG
    early = bool(rng.random() < 1 / (1 + math.exp(-min(max(redness, -50.0), 50.0))))
    fraction_r, bulge_n = _bulge(early, rng)
    radius_arcsec = draw_radius_kpc(luminosity_mag, early, rng) / kpc_per_arcsec(z)
    radius_arcsec = min(max(radius_arcsec, _MIN_RADIUS_ARCSEC), _MAX_RADIUS_ARCSEC)
    ratio = _BULGE_TO_DISC_RADIUS * math.exp(_BULGE_TO_DISC_LN_SCATTER * rng.standard_normal())
    disc_arcsec = radius_arcsec / composite_radius(fraction_r, bulge_n, ratio)
    bulge_arcsec = radius_arcsec if fraction_r == 1 else disc_arcsec * ratio
    bulge_q, disc_q = _axis_ratios(luminosity_mag, fraction_r == 1, rng)
    return Shape(
        early=early,
        bulge=Component(bulge_n, bulge_arcsec, bulge_q),
        disc=Component(1.0, disc_arcsec, disc_q),
        bulge_fraction=_bulge_fractions(fraction_r, early, rng),
        half_light_arcsec=radius_arcsec,
        angle_rad=math.pi * rng.random(),
    )


def absolute_magnitude_r(magnitude: NDArray[np.float64], z: float) -> float:
    """Rest-frame M_r with the K-correction of Chilingarian & Zolotukhin 2012, MNRAS 419, 1727 (from g − r).

    Their fit ends at z = 0.5; beyond it, the correction for z = 0.5 is used.
    """
    powers_z = min(z, 0.5) ** np.arange(6)
    colour = min(max(float(magnitude[_G] - magnitude[_R]), -0.1), 1.9)
    correction = float(powers_z @ _K_R_FROM_GR @ colour ** np.arange(4))
    return float(magnitude[_R]) - distance_modulus(z) - correction


_K_R_FROM_GR = np.array(
    [
        [0, 0, 0, 0],
        [-1.61294, 3.81378, -3.56114, 2.47133],
        [9.13285, 9.85141, -5.1432, -7.02213],
        [-81.8341, -30.3631, 38.5052, 0],
        [250.732, -25.0159, 0, 0],
        [-215.377, 0, 0, 0],
    ]
)


def draw_radius_kpc(luminosity_mag: float, early: bool, rng: np.random.Generator) -> float:
    """Half-light radius: the log-normal size–luminosity relation of Shen et al. 2003, MNRAS 343, 978.

    Their r-band Sérsic half-light radii: equations 14 to 16 with the parameters of Table 1, row "Fig. 6".
    """
    m0, sigma_bright, sigma_faint = -20.91, 0.27, 0.45
    if early:
        log_radius = -0.4 * 0.65 * luminosity_mag - 5.06
    else:
        alpha, beta, gamma = 0.26, 0.51, -1.71
        knee = math.log10(1 + 10 ** (-0.4 * (luminosity_mag - m0)))
        log_radius = -0.4 * alpha * luminosity_mag + (beta - alpha) * knee + gamma
    scatter = sigma_bright + (sigma_faint - sigma_bright) / (1 + 10 ** (-0.8 * (luminosity_mag - m0)))
    return float(10**log_radius * math.exp(scatter * rng.standard_normal()))


def _bulge(early: bool, rng: np.random.Generator) -> tuple[float, float]:
    """Bulge-to-total ratio in r and the bulge's Sérsic index, in steps of 0.5 (a profile table is made per index).

    Half of the early types are pure spheroids; bulges of discs hold well under half of the light and have n near
    1.7 ± 0.7 (Graham & Worley 2008; Balcells et al. 2003, ApJ 582, L79); the Beta distributions are ours.
    """
    pure = rng.random() < 0.5
    if early:
        fraction = 1.0 if pure else rng.beta(4.0, 4.0)
        index = min(max(rng.normal(4.0, 0.8), 2.5), 5.5)
    else:
        fraction = rng.beta(1.2, 5.0)
        index = min(max(rng.normal(1.7, 0.7), 1.0), 4.0)
    return float(fraction), round(2 * index) / 2


def _bulge_fractions(fraction_r: float, early: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """The bulge's share of the flux in each band; the total in each band stays the measured flux.

    Components of early types nearly share one colour (Kennedy et al. 2016; Quilley et al. 2025).
    """
    contrast = (0.25 if early else 1.0) * max(0.0, rng.normal(1.0, 0.3))
    if fraction_r == 1:
        return np.ones(5)
    bulge_to_disc = fraction_r / (1 - fraction_r) * 10 ** (-0.4 * contrast * _BULGE_COLOUR_MAG)
    fractions: NDArray[np.float64] = bulge_to_disc / (1 + bulge_to_disc)
    return fractions


def _axis_ratios(luminosity_mag: float, spheroid: bool, rng: np.random.Generator) -> tuple[float, float]:
    """Apparent axis ratios (bulge, disc) of a randomly inclined galaxy: Padilla & Strauss 2008, MNRAS 388, 1321.

    Discs: thickness 0.21 ± 0.02, face-on ellipticity ln e = −2.33 ± 0.79. Ellipticals: oblate, mean axis ratio
    from 0.41 at M_r = −18 to 0.76 at −22.5. The scatter 0.1 and the bulges' 0.75 are ours.
    """
    cos2 = rng.random() ** 2
    thickness = min(max(rng.normal(0.21, 0.02), 0.1), 0.4)
    face_on = 1 - min(math.exp(rng.normal(-2.33, 0.79)), 0.6)
    mean = min(max(0.41 + (0.76 - 0.41) * (-18 - luminosity_mag) / 4.5, 0.41), 0.8) if spheroid else 0.75
    flattening = min(max(rng.normal(mean, 0.1), 0.25), 1.0)
    bulge_q = math.sqrt(flattening**2 * (1 - cos2) + cos2)
    disc_q = math.sqrt(thickness**2 * (1 - cos2) + cos2) * face_on
    return bulge_q, max(disc_q, 0.1)


_RADII = np.logspace(-3.5, 2, 600)


@lru_cache(maxsize=64)
def _growth_curve(sersic_n: float) -> NDArray[np.float64]:
    """Share of a Sérsic profile's flux within `_RADII` half-light radii; b_n: Ciotti & Bertin 1999, A&A 352, 447."""
    b = 2 * sersic_n - 1 / 3 + 4 / (405 * sersic_n) + 46 / (25515 * sersic_n**2)
    ring = np.exp(-b * _RADII ** (1 / sersic_n)) * _RADII**2
    inner = np.concatenate([[0.0], np.cumsum((ring[1:] + ring[:-1]) / 2)])
    share: NDArray[np.float64] = inner / inner[-1]
    return share


def composite_radius(bulge_fraction: float, bulge_n: float, radius_ratio: float) -> float:
    """Half-light radius of bulge + exponential disc, in half-light radii of the disc; bulge radius = `radius_ratio`."""
    bulge = np.interp(_RADII / radius_ratio, _RADII, _growth_curve(bulge_n), left=0.0, right=1.0)
    total = bulge_fraction * bulge + (1 - bulge_fraction) * _growth_curve(1.0)
    return float(np.interp(0.5, total, _RADII))
