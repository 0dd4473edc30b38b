"""Figures of predicted redshifts against spectroscopic ones, and of their residuals.

No galaxy is left out without a word: what lies beyond an axis is marked at its edge and counted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skyfan.report.drawing import Figure, LinearSegmentedColormap, LogNorm, MaxNLocator
from skyfan.report.figures import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.floating]

OUTLIER = 0.05
# Above the axes, where no galaxy is.
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "ncols": 2,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
    "fontsize": 9,
}
# From light to strong, each of them visible on a white and on a dark page.
_DENSITY = LinearSegmentedColormap.from_list("skyfan", ["#85bde0", BLUE, "#b5379a"])
_FEWEST_IN_BIN = 25
_MOST_BINS = 12
# Figures of equal width: what a page has for one.
_WIDTH = 5.2


def redshift_figure(z_pred: Values, z_spec: Values) -> Figure:
    """Predicted against spectroscopic redshift as a density, with the identity and |Δz| = 0.05."""
    with new_figure(_WIDTH, 5.0) as (figure, axes):
        lowest, highest = np.percentile(np.concatenate([z_pred, z_spec]), [0.1, 99.9])
        low = min(0.0, float(lowest))
        span = (low, max(float(highest) * 1.05, low + 0.01))
        beyond = _density(figure, axes, z_spec, z_pred, span, span)
        grid = np.array(span)
        axes.plot(grid, grid, color=GREY, linewidth=1, label="equal")
        for sign in (-1, 1):
            edge = grid + sign * OUTLIER * (1 + grid)
            label = f"|Δz| = {OUTLIER}" if sign > 0 else None
            axes.plot(grid, edge, color=GREY, linewidth=1, linestyle="--", label=label)
        axes.set(xlim=span, ylim=span, xlabel=f"spectroscopic redshift{beyond}", ylabel="predicted redshift")
        axes.set_aspect("equal")
        axes.legend(**_LEGEND)
        return figure


def residual_figure(x: Values, residual: Values, x_label: str) -> Figure:
    """Δz against `x` as a density, with the running median and where 68% of the galaxies lie."""
    with new_figure(_WIDTH, 2.7) as (figure, axes):
        left, right = (float(edge) for edge in np.percentile(x, [0.2, 99.8]))
        if left == right:
            left, right = left - 0.5, right + 0.5
        reach = max(1.2 * OUTLIER, 1.1 * float(np.percentile(np.abs(residual), 99.7)))
        beyond = _density(figure, axes, x, residual, (left, right), (-reach, reach))
        for level in (-OUTLIER, OUTLIER):
            label = f"|Δz| = {OUTLIER}" if level > 0 else None
            axes.axhline(level, color=GREY, linewidth=1, linestyle="--", label=label)
        axes.axhline(0, color=GREY, linewidth=1)
        _running(axes, x, residual)
        axes.set(xlim=(left, right), ylim=(-reach, reach), xlabel=x_label + beyond, ylabel="Δz")
        axes.legend(**_LEGEND)
        return figure


def histogram_figure(z_pred: Values) -> Figure:
    """Histogram of the predicted redshifts."""
    with new_figure(_WIDTH, 3.4) as (figure, axes):
        axes.hist(z_pred, bins=int(np.clip(np.sqrt(len(z_pred)), 5, 80)), color=BLUE)
        axes.set(xlabel="predicted redshift", ylabel="galaxies")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def distribution_figure(z_pred: Values, z_spec: Values) -> Figure:
    """N(z): how many galaxies have which predicted, and which spectroscopic redshift."""
    with new_figure(_WIDTH, 2.7) as (figure, axes):
        both = np.concatenate([z_pred, z_spec])
        bins = int(np.clip(np.sqrt(len(z_pred)), 5, 60))
        edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-3), bins).tolist()
        axes.hist(z_spec, edges, color=BLUE, alpha=0.45, label="spectroscopic")
        axes.hist(z_pred, edges, histtype="step", color=ORANGE, linewidth=1.4, label="predicted")
        axes.set(xlabel="redshift", ylabel="galaxies")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(**_LEGEND)
        return figure


def pit_figure(counts: Sequence[int]) -> Figure:
    """PIT in equal bins, with what uniform ones would have: mean and one standard deviation."""
    with new_figure(_WIDTH, 2.7) as (figure, axes):
        edges = np.linspace(0, 1, len(counts) + 1)
        mean = sum(counts) / len(counts)
        spread = np.sqrt(mean * (1 - 1 / len(counts)))
        axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.6)
        axes.axhspan(mean - spread, mean + spread, color=GREY, alpha=0.3, linewidth=0)
        axes.axhline(mean, color=GREY, linewidth=1, label="uniform, ± 1 standard deviation")
        axes.set(xlim=(0, 1), xlabel="PIT, cumulative p(z) at z_spec", ylabel="galaxies")
        axes.legend(**_LEGEND)
        return figure


def curve_figure(z: Values, density: Values, z_pred: float | None, z_spec: float | None) -> Figure:
    """One galaxy's p(z), small, with the true redshift as a line and the predicted one dashed."""
    with new_figure(1.6, 0.9) as (figure, axes):
        axes.fill_between(z, density, color=BLUE, alpha=0.6, linewidth=0)
        for value, line, colour in ((z_spec, "-", ORANGE), (z_pred, "--", GREY)):
            if value is not None:
                axes.axvline(value, color=colour, linestyle=line, linewidth=1.2)
        axes.set(yticks=[], ylim=(0, None))
        axes.spines["left"].set_visible(False)
        axes.tick_params(labelsize=10, length=2)  # 1.6 inches become about 110 pixels in the gallery
        axes.xaxis.set_major_locator(MaxNLocator(3))
        return figure


def _density(
    figure: Figure, axes: "Axes", x: Values, y: Values, x_span: tuple[float, float], y_span: tuple[float, float]
) -> str:
    """Galaxies per cell on a logarithmic scale; the fewer the galaxies, the wider the cells.

    Returns how many lie beyond the axes, for a label; empty where none does.
    """
    cells = int(np.clip(1.5 * np.sqrt(len(x)), 24, 120))
    edges = np.linspace(*x_span, cells + 1), np.linspace(*y_span, cells + 1)
    counts, _, _ = np.histogram2d(x, y, bins=edges)
    image = axes.pcolormesh(
        *edges,
        np.where(counts > 0, counts, np.nan).T,
        cmap=_DENSITY,
        norm=LogNorm(1, max(10.0, float(counts.max()))),
        rasterized=True,
    )
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="galaxies per cell")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.outline.set_visible(False)
    return _mark_beyond(axes, x, y, x_span, y_span)


def _mark_beyond(axes: "Axes", x: Values, y: Values, x_span: tuple[float, float], y_span: tuple[float, float]) -> str:
    """Galaxies beyond the axes as triangles at the edge; returns how many they are."""
    beyond = (x < x_span[0]) | (x > x_span[1]) | (y < y_span[0]) | (y > y_span[1])
    if not beyond.any():
        return ""
    at_x, at_y = np.clip(x[beyond], *x_span), np.clip(y[beyond], *y_span)
    above, below = y[beyond] > y_span[1], y[beyond] < y_span[0]
    left = ~above & ~below & (x[beyond] < x_span[0])
    for marker, chosen in (("^", above), ("v", below), ("<", left), (">", ~above & ~below & ~left)):
        axes.plot(
            at_x[chosen], at_y[chosen], marker, color=ORANGE, markersize=5, clip_on=False,
            rasterized=bool(chosen.sum() > 400),
        )  # fmt: skip
    count = int(beyond.sum())
    return f" · {count:,} {'galaxy' if count == 1 else 'galaxies'} beyond the axes (▲)"


def _running(axes: "Axes", x: Values, y: Values) -> None:
    bins = min(_MOST_BINS, len(x) // _FEWEST_IN_BIN)
    if bins < 2:
        return
    parts = np.array_split(np.argsort(x, kind="stable"), bins)
    middle = [float(np.median(x[part])) for part in parts]
    low, median, high = np.array([np.percentile(y[part], [16, 50, 84]) for part in parts]).T
    reach = np.stack([median - low, high - median])
    axes.errorbar(
        middle, median, yerr=reach, color=ORANGE, marker="o", markersize=3.5, linewidth=1.2, capsize=2,
        label="median, 16th to 84th percentile",
    )  # fmt: skip
