"""How good redshifts are: metrics of intervals and of p(z), bootstrap errors of every metric, and metrics in bins.

Errors are standard deviations over Poisson bootstrap replicates (Hanley & MacGibbon 2006, Comput. Methods Programs
Biomed. 83, 57): each galaxy counts Poisson(1) times. How often follows from its sample index, so that the same rows
give the same errors, however they were cut into ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from skyfan.science.metrics import NMAD_SCALE, delta_z, science_metrics

Values = NDArray[np.float64]

REPLICATES = 100
"""The error of an error is 1/√(2 · 100) = 7%."""
MAX_BOOTSTRAP_ROWS, MAX_BIN_ROWS = 20_000, 4_000
"""Of more rows this many are used, and their error is scaled; in a bin it is looked at, not quoted."""
PIT_BINS = 20
FEWEST_IN_BIN = 25
MOST_BINS = 8
SCORES = ("z_low", "z_high", "pit", "crps", "cde_loss")
_MEANS = ("crps", "cde_loss")


@dataclass(frozen=True)
class Labelled:
    """Galaxies whose predicted and spectroscopic redshift are known: arrays [N]; `scores` by column, as in results."""

    index: NDArray[np.int64]
    z_pred: Values
    z_spec: Values
    scores: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)

    def take(self, rows: slice | NDArray[np.generic]) -> Self:
        """These of the galaxies."""
        scores = {name: values[rows] for name, values in self.scores.items()}
        return type(self)(self.index[rows], self.z_pred[rows], self.z_spec[rows], scores)

    @property
    def covered(self) -> NDArray[np.bool_] | None:
        """Which true redshifts lie in their interval; None where there are no intervals."""
        if not {"z_low", "z_high"} <= self.scores.keys():
            return None
        # As results hold them, in float32: an interval that was calibrated on this very number holds it.
        spec = self.z_spec.astype(np.float32)
        return np.asarray((self.scores["z_low"] <= spec) & (spec <= self.scores["z_high"]))


@dataclass
class ScoreSums:
    """Sums over all labelled rows of what only intervals and p(z) have, rank by rank."""

    rows: int = 0
    covered: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    pit_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(PIT_BINS, np.int64))

    def add(self, galaxies: Labelled) -> None:
        """Further rows."""
        self.rows += len(galaxies.index)
        if (covered := galaxies.covered) is not None:
            self.covered += int(covered.sum())
            self.sums.setdefault("coverage", 0.0)
        for name in _MEANS:
            if name in galaxies.scores:
                self.sums[name] = self.sums.get(name, 0.0) + float(galaxies.scores[name].sum(dtype=np.float64))
        if "pit" in galaxies.scores:
            self.pit_counts += np.histogram(galaxies.scores["pit"], PIT_BINS, (0, 1))[0]

    def metrics(self) -> dict[str, float]:
        """Means over the rows."""
        if not self.rows:
            return {}
        return {name: (self.covered if name == "coverage" else total) / self.rows for name, total in self.sums.items()}


def sigma68(residual: Values) -> float:
    """Half of the distance between the 16th and the 84th percentile of Δz [N]."""
    low, high = np.percentile(residual, [16, 84])
    return float(high - low) / 2


def ks_test(pit: NDArray[np.floating]) -> tuple[float, float]:
    """Kolmogorov's distance of PIT values [N] from uniform, and the probability of one as large if they are uniform.

    The probability is that of the limit with the correction of Stephens 1970, J. R. Statist. Soc. B 32, 115.
    """
    values = np.sort(pit.astype(np.float64))
    count = len(values)
    steps = np.arange(count + 1) / count
    distance = float(max((steps[1:] - values).max(), (values - steps[:-1]).max()))
    reduced = (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count)) * distance
    if reduced < 0.2:  # the series converges slowly there, to 1 within 1e-12
        return distance, 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * k**2 * reduced**2) for k in range(1, 101))
    return distance, float(min(1.0, max(0.0, sum(terms))))


def metrics_of(galaxies: Labelled) -> dict[str, float]:
    """All metrics of these galaxies; of none no metric."""
    found = science_metrics(galaxies.z_pred, galaxies.z_spec)
    if found is None:
        return {}
    metrics = asdict(found) | {"sigma68": sigma68(delta_z(galaxies.z_pred, galaxies.z_spec))}
    sums = ScoreSums()
    sums.add(galaxies)
    return metrics | sums.metrics()


def errors_of(galaxies: Labelled, total: int | None = None, most_rows: int = MAX_BOOTSTRAP_ROWS) -> dict[str, float]:
    """The standard error of each metric; where `total` rows are stood for by fewer, that of all of them."""
    if len(galaxies.index) < 2:
        return {}
    chosen = galaxies.take(slice(None, None, -(-len(galaxies.index) // most_rows)))
    replicates = _weighted_metrics(chosen, poisson_weights(chosen.index))
    scale = math.sqrt(len(chosen.index) / (total or len(galaxies.index)))
    return {name: float(np.std(values, ddof=1)) * scale for name, values in replicates.items()}


# A uniform number of 53 bits, the upper ones of 64, is below e⁻¹ Σ 1/k! as often as Poisson(1) is at most k.
_POISSON = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(12)])
_POISSON_STEPS = [np.uint64(math.ceil(chance * 2**53) << 11) for chance in _POISSON]


def poisson_weights(index: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each sample counts in each replicate, [N, REPLICATES]: Poisson(1), by a hash of its index.

    The hash is SplitMix64 (Steele, Lea & Flood 2014, OOPSLA).
    """
    first = index.astype(np.uint64)[:, None] * np.uint64(REPLICATES)
    mixed = np.add(first, np.arange(1, REPLICATES + 1, dtype=np.uint64), dtype=np.uint64)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    counts = np.zeros(mixed.shape, np.int8)
    for step in _POISSON_STEPS:
        counts += mixed >= step
    return counts.astype(np.float64)


def _weighted_metrics(galaxies: Labelled, weights: Values) -> dict[str, Values]:
    """Each metric [B] of each replicate of the galaxies, weights [N, B]."""
    residual, error = delta_z(galaxies.z_pred, galaxies.z_spec), galaxies.z_pred - galaxies.z_spec
    total = np.maximum(weights.sum(axis=0), 1)

    def mean(values: NDArray[np.generic]) -> Values:
        return np.asarray(values.astype(np.float64) @ weights / total)

    order = np.argsort(residual, kind="stable")
    ordered, cumulative = residual[order], np.cumsum(weights[order], axis=0)
    low, middle, high = (_weighted_quantile(ordered, cumulative, level) for level in (0.16, 0.5, 0.84))
    found = {"bias": mean(residual), "mae": mean(np.abs(error)), "mse": mean(error**2), "sigma68": (high - low) / 2}
    spread = mean(galaxies.z_spec**2) - mean(galaxies.z_spec) ** 2
    found["r2"] = 1 - np.divide(found["mse"], spread, out=np.full_like(spread, np.nan), where=spread > 0)
    found["nmad"] = NMAD_SCALE * _half_widths(ordered, cumulative, middle)
    for name, cut in (("outlier_fraction_005", 0.05), ("outlier_fraction_015", 0.15)):
        found[name] = mean(np.abs(residual) > cut)
    if (covered := galaxies.covered) is not None:
        found["coverage"] = mean(covered)
    return found | {name: mean(galaxies.scores[name]) for name in _MEANS if name in galaxies.scores}


def _weighted_quantile(ordered: Values, cumulative: Values, level: float) -> Values:
    """The smallest of the values [N], in order, that has this part of the weight at or below it, for each replicate.

    `cumulative` [N, B] are the sums of each replicate's weights up to each value; the result is [B].
    """
    return np.asarray(ordered[(cumulative < level * cumulative[-1]).sum(axis=0)])


def _half_widths(ordered: Values, cumulative: Values, centres: Values) -> Values:
    """How far from its centre [B] half of each replicate's weight lies: the median of |value - centre|, [B].

    Found by halving the range of all positive numbers, whose bits are in their order: sorting the distances of each
    replicate takes five times as long.
    """
    sums = np.concatenate([np.zeros_like(cumulative[:1]), cumulative])
    replicate, half = np.arange(len(centres)), 0.5 * cumulative[-1]

    def suffices(width: Values) -> NDArray[np.bool_]:
        above = np.searchsorted(ordered, centres + width, side="right")
        below = np.searchsorted(ordered, centres - width, side="left")
        return np.asarray(sums[above, replicate] - sums[below, replicate] >= half)

    short = np.zeros(len(centres), np.int64)
    enough = np.where(suffices(np.zeros_like(centres)), 0, np.float64(np.inf).view(np.int64))
    for _ in range(63):
        middle = short + (enough - short) // 2
        found = suffices(middle.view(np.float64))
        short, enough = np.where(found, short, middle), np.where(found, middle, enough)
    return enough.view(np.float64)


@dataclass(frozen=True)
class Bin:
    """Galaxies with `low` ≤ x ≤ `high`: their metrics, and the errors of these."""

    low: float
    high: float
    metrics: dict[str, float]
    errors: dict[str, float]


def in_bins(galaxies: Labelled, x: Values) -> list[Bin]:
    """Metrics in bins of x [N] with equally many galaxies each; none where there are too few for two bins.

    Rows whose x is not finite are in no bin.
    """
    known = np.flatnonzero(np.isfinite(x))
    count = min(MOST_BINS, len(known) // FEWEST_IN_BIN)
    if count < 2:
        return []
    found = []
    for part in np.array_split(known[np.argsort(x[known], kind="stable")], count):
        chosen = galaxies.take(np.sort(part))
        errors = errors_of(chosen, most_rows=MAX_BIN_ROWS)
        found.append(Bin(float(x[part[0]]), float(x[part[-1]]), metrics_of(chosen), errors))
    return found
