"""Redshift distributions p(z): what is computed from them, many galaxies at once.

A distribution is either a mixture of normal distributions, or a cumulative distribution that is linear between knots;
grids, bins, quantiles and samples all become the latter, as in qp (https://qp.readthedocs.io/), so that quantiles and
PIT agree with its. All arrays have one row a galaxy.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from skyfan.pz_form import PzForm

Values = NDArray[np.float64]

LOW_LEVEL, HIGH_LEVEL = 0.16, 0.84
"""The central interval that holds 68%."""
ODDS_WIDTH = 0.03
"""Odds are P(|z − z_pred| < 0.03 (1 + z_pred)), as for miniJPAS (Hernán-Caballero et al. 2021, A&A 654, A101); those of
BPZ (Benítez 2000, ApJ 536, 571) are the same with a width that fits its survey."""
# Far below the error of any redshift: quantiles that fall together get this distance, so that densities are finite.
_SMALLEST_STEP: Final = 1e-6
_BISECTIONS: Final = 48
_MEAN_SHIFTS: Final = 60
_REACH_SIGMA: Final = 8.0


class Distributions(ABC):
    """N distributions p(z)."""

    @abstractmethod
    def cdf(self, z: Values) -> Values:
        """P(z' ≤ z) at one redshift a galaxy, [N]; of the true redshift this is the PIT."""

    @abstractmethod
    def density(self, z: Values) -> Values:
        """p(z) at one redshift a galaxy, [N]."""

    @abstractmethod
    def quantile(self, level: float) -> Values:
        """The redshifts [N] below which this part of the probability lies."""

    @abstractmethod
    def mean(self) -> Values:
        """Expected redshifts [N]."""

    @abstractmethod
    def mode(self) -> Values:
        """Redshifts of the highest density [N]."""

    @abstractmethod
    def squared_norm(self) -> Values:
        """∫ p(z)² dz, [N]."""

    @abstractmethod
    def crps(self, z: Values) -> Values:
        """∫ (P(z') − [z' ≥ z])² dz', [N] (Matheson & Winkler 1976, Management Science 22, 1087)."""

    def cde_loss(self, z: Values) -> Values:
        """∫ p² dz − 2 p(z) at the true redshifts, [N] (Izbicki & Lee 2017, EJS 11, 2800)."""
        return self.squared_norm() - 2 * self.density(z)

    def odds(self, z_pred: Values) -> Values:
        """The probability [N] that the relative error of `z_pred` is below `ODDS_WIDTH`."""
        reach = ODDS_WIDTH * (1 + z_pred)
        return self.cdf(z_pred + reach) - self.cdf(z_pred - reach)


@dataclass(frozen=True)
class Piecewise(Distributions):
    """Cumulative distributions that rise linearly from 0 to 1 between knots.

    `knots` [1 or N, M] rise strictly, `cumulative` is [N, M] or [1, M]. Where the density itself is known at the knots
    (a grid), `densities` [N, M] has it. `mode_window` is over how many segments the mode is sought.
    """

    knots: Values
    cumulative: Values
    densities: Values | None = None
    mode_window: int = 1

    def cdf(self, z: Values) -> Values:
        """See `Distributions.cdf`."""
        knots, cumulative = np.broadcast_arrays(self.knots, self.cumulative)
        return _interpolated(z, knots, cumulative)

    def density(self, z: Values) -> Values:
        """See `Distributions.density`."""
        knots, _ = np.broadcast_arrays(self.knots, self.cumulative)
        outside = (z < knots[:, 0]) | (z > knots[:, -1])
        if self.densities is not None:
            return np.where(outside, 0.0, _interpolated(z, knots, self.densities))
        slopes = np.diff(self.cumulative) / np.diff(self.knots)
        segment = np.clip((knots <= z[:, None]).sum(axis=1) - 1, 0, slopes.shape[1] - 1)
        found = np.take_along_axis(np.broadcast_to(slopes, (len(z), slopes.shape[1])), segment[:, None], 1)[:, 0]
        return np.where(outside, 0.0, found)

    def quantile(self, level: float) -> Values:
        """See `Distributions.quantile`."""
        knots, cumulative = np.broadcast_arrays(self.knots, self.cumulative)
        after = np.clip((cumulative < level).sum(axis=1), 1, knots.shape[1] - 1)[:, None]
        low, high = (np.take_along_axis(cumulative, at, 1)[:, 0] for at in (after - 1, after))
        left, right = (np.take_along_axis(knots, at, 1)[:, 0] for at in (after - 1, after))
        part = np.divide(level - low, high - low, out=np.zeros_like(low), where=high > low)
        return np.asarray(left + (right - left) * np.clip(part, 0, 1))

    def mean(self) -> Values:
        """See `Distributions.mean`."""
        middle = (self.knots[:, 1:] + self.knots[:, :-1]) / 2
        return np.asarray((np.diff(self.cumulative) * middle).sum(axis=1))

    def mode(self) -> Values:
        """See `Distributions.mode`."""
        if self.densities is not None:
            return np.asarray(self.knots[0, self.densities.argmax(axis=1)])
        knots, cumulative = np.broadcast_arrays(self.knots, self.cumulative)
        size = self.mode_window
        lengths, masses = knots[:, size:] - knots[:, :-size], cumulative[:, size:] - cumulative[:, :-size]
        best = (masses / lengths).argmax(axis=1)[:, None]
        ends = (np.take_along_axis(knots, best + offset, 1)[:, 0] for offset in (0, size))
        return np.asarray(sum(ends) / 2)

    def squared_norm(self) -> Values:
        """See `Distributions.squared_norm`."""
        steps = np.diff(self.knots)
        if self.densities is None:
            return np.asarray((np.diff(self.cumulative) ** 2 / steps).sum(axis=1))
        return np.asarray((steps * _third(self.densities[:, :-1], self.densities[:, 1:])).sum(axis=1))

    def crps(self, z: Values) -> Values:
        """See `Distributions.crps`."""
        left, right = self.knots[:, :-1], self.knots[:, 1:]
        before, after = self.cumulative[:, :-1], self.cumulative[:, 1:]
        split = np.clip(z[:, None], left, right)
        at_split = before + (after - before) * (split - left) / (right - left)
        inside = (split - left) * _third(before, at_split) + (right - split) * _third(1 - at_split, 1 - after)
        beyond = np.maximum(self.knots[:, 0] - z, 0) + np.maximum(z - self.knots[:, -1], 0)
        return np.asarray(inside.sum(axis=1) + beyond)


@dataclass(frozen=True)
class Mixture(Distributions):
    """Mixtures of K normal distributions: `means`, `sigmas` > 0 and `weights` of sum 1, each [N, K]."""

    means: Values
    sigmas: Values
    weights: Values

    def cdf(self, z: Values) -> Values:
        """See `Distributions.cdf`."""
        return np.asarray((self.weights * normal_cdf((z[:, None] - self.means) / self.sigmas)).sum(axis=1))

    def density(self, z: Values) -> Values:
        """See `Distributions.density`."""
        return np.asarray((self.weights * _normal(z[:, None] - self.means, self.sigmas)).sum(axis=1))

    def quantile(self, level: float) -> Values:
        """See `Distributions.quantile`."""
        low = (self.means - _REACH_SIGMA * self.sigmas).min(axis=1)
        high = (self.means + _REACH_SIGMA * self.sigmas).max(axis=1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = self.cdf(middle) < level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def mean(self) -> Values:
        """See `Distributions.mean`."""
        return np.asarray((self.weights * self.means).sum(axis=1))

    def mode(self) -> Values:
        """From each component's mean uphill by mean shift (Carreira-Perpiñán 2000, IEEE PAMI 22, 1318), the highest."""
        at = self.means.copy()
        precision = 1 / self.sigmas**2
        for _ in range(_MEAN_SHIFTS):
            share = self.weights[:, None] * _normal(at[:, :, None] - self.means[:, None], self.sigmas[:, None])
            share *= precision[:, None]
            total = share.sum(axis=2)
            pulled = (share * self.means[:, None]).sum(axis=2)
            at = np.divide(pulled, total, out=at, where=total > 0)
        found = self.weights[:, None] * _normal(at[:, :, None] - self.means[:, None], self.sigmas[:, None])
        return np.asarray(at[np.arange(len(at)), found.sum(axis=2).argmax(axis=1)])

    def squared_norm(self) -> Values:
        """See `Distributions.squared_norm`."""
        apart, spread = self._pairs()
        return np.asarray((self._products() * _normal(apart, spread)).sum(axis=(1, 2)))

    def crps(self, z: Values) -> Values:
        """In closed form: Grimit et al. 2006, Q. J. R. Meteorol. Soc. 132, 2925, equation 5."""
        apart, spread = self._pairs()
        near = (self.weights * _expected_distance(z[:, None] - self.means, self.sigmas)).sum(axis=1)
        return np.asarray(near - (self._products() * _expected_distance(apart, spread)).sum(axis=(1, 2)) / 2)

    def _pairs(self) -> tuple[Values, Values]:
        """Distances and joint standard deviations of each two components, [N, K, K]."""
        apart = self.means[:, :, None] - self.means[:, None]
        return apart, np.hypot(self.sigmas[:, :, None], self.sigmas[:, None])

    def _products(self) -> Values:
        return np.asarray(self.weights[:, :, None] * self.weights[:, None])


def normalised(form: PzForm, parts: tuple[NDArray[np.floating], ...]) -> tuple[tuple[Values, ...], NDArray[np.bool_]]:
    """A model's outputs [N, W] (three of a mixture, else one) as results hold them, and which rows are distributions.

    Densities integrate to 1, probabilities and weights add up to 1, quantiles and samples are in order (rearranged as
    by Chernozhukov, Fernández-Val & Galichon 2010, Econometrica 78, 1093). Rows that are none become valid ones, which
    only keep what follows from them computable.
    """
    arrays = tuple(np.asarray(part, np.float64) for part in parts)
    valid = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in arrays])
    if form.kind in ("quantiles", "samples"):
        (values,) = arrays
        blank = np.arange(values.shape[1], dtype=np.float64)
        return (np.sort(np.where(valid[:, None], values, blank), axis=1),), valid
    *shapes, heights = arrays
    if shapes:
        valid &= (shapes[1] > 0).all(axis=1)
        shapes = [np.where(valid[:, None], shapes[0], 0.0), np.where(valid[:, None], shapes[1], 1.0)]
    valid &= (heights >= 0).all(axis=1)
    heights = np.where(valid[:, None], heights, 1.0)
    total = np.trapezoid(heights, _grid(form), axis=1) if form.kind == "grid" else heights.sum(axis=1)
    valid &= total > 0
    heights = np.where(valid[:, None], heights / np.where(total > 0, total, 1.0)[:, None], 1.0)
    if not valid.all():  # 1 everywhere does not add up to 1
        width = form.high - form.low if form.kind == "grid" else heights.shape[1]
        heights[~valid] /= width
    return (*shapes, heights), valid


def distributions(form: PzForm, parts: tuple[NDArray[np.floating], ...]) -> Distributions:
    """The distributions that normalised outputs describe."""
    arrays = tuple(np.asarray(part, np.float64) for part in parts)
    if form.kind == "mixture":
        return Mixture(*arrays)
    (values,) = arrays
    zero = np.zeros((len(values), 1))
    if form.kind == "grid":
        knots = _grid(form)
        masses = (values[:, 1:] + values[:, :-1]) / 2 * np.diff(knots)
        cumulative = np.concatenate([zero, np.cumsum(masses, axis=1)], axis=1)
        return Piecewise(knots[None], cumulative / cumulative[:, -1:], values)
    if form.kind == "bins":
        knots = np.linspace(form.low, form.high, form.points + 1)
        cumulative = np.concatenate([zero, np.cumsum(values, axis=1)], axis=1)
        return Piecewise(knots[None], cumulative / cumulative[:, -1:])
    count = values.shape[1]
    # The i-th of n sorted samples is taken for the quantile of level (i + 1/2)/n (Hazen 1914).
    levels = np.array(form.levels) if form.levels else (np.arange(count) + 0.5) / count
    return _of_quantiles(values, levels)


def _of_quantiles(values: Values, levels: Values) -> Piecewise:
    """Through the quantiles, and beyond the outermost ones on with the density beside them."""
    if values.shape[1] == 1:
        values, levels = np.repeat(values, 2, axis=1), np.array([0.25, 0.75])
    steps = _SMALLEST_STEP * np.arange(values.shape[1])
    values = np.maximum.accumulate(values - steps, axis=1) + steps
    first = values[:, :1] - (values[:, 1:2] - values[:, :1]) * levels[0] / (levels[1] - levels[0])
    last = values[:, -1:] + (values[:, -1:] - values[:, -2:-1]) * (1 - levels[-1]) / (levels[-1] - levels[-2])
    knots = np.concatenate([first, values, last], axis=1)
    window = max(1, round(np.sqrt(values.shape[1]))) if values.shape[1] > 3 else 1
    return Piecewise(knots, np.concatenate([[0.0], levels, [1.0]])[None], mode_window=window)


def _grid(form: PzForm) -> Values:
    return np.linspace(form.low, form.high, form.points)


def _interpolated(at: Values, x: Values, y: Values) -> Values:
    """y(at) between the points (x, y) of each row, its ends beyond them; `x` [N, M] rises strictly."""
    after = np.clip((x <= at[:, None]).sum(axis=1), 1, x.shape[1] - 1)[:, None]
    left, right = (np.take_along_axis(x, column, 1)[:, 0] for column in (after - 1, after))
    low, high = (np.take_along_axis(y, column, 1)[:, 0] for column in (after - 1, after))
    return np.asarray(low + (high - low) * np.clip((at - left) / (right - left), 0, 1))


def _third(one: Values, other: Values) -> Values:
    """The mean of f² where f goes linearly from one value to the other."""
    return np.asarray((one**2 + one * other + other**2) / 3)


def _normal(distance: Values, sigma: Values) -> Values:
    """Density of a normal distribution at this distance from its mean."""
    return np.asarray(np.exp(-((distance / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi)))


def _expected_distance(distance: Values, sigma: Values) -> Values:
    """E|X| of X normal with this mean and standard deviation."""
    return np.asarray(2 * sigma**2 * _normal(distance, sigma) + distance * (2 * normal_cdf(distance / sigma) - 1))


def normal_cdf(x: Values) -> Values:
    """Φ(x) within 1e-7: Abramowitz & Stegun 1964, equation 7.1.26. numpy has none, and ranks run without scipy."""
    scaled = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * scaled)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * np.exp(-(scaled**2)) / 2
    return np.asarray(np.where(x < 0, tail, 1 - tail))
