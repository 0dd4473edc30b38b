"""Figures of predicted redshifts against spectroscopic ones, and of their residuals."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skyfan.report.drawing import Figure, LinearSegmentedColormap, LogNorm, MaxNLocator
from skyfan.report.figures import BLUE, GREY, ORANGE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.floating]

OUTLIER = 0.05
# Above the axes: on a dark page only the inside of the axes is white.
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "ncols": 2,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
    "fontsize": 9,
}
# One hue by lightness; a single galaxy is still visible on white.
_DENSITY = LinearSegmentedColormap.from_list("skyfan", ["#8cc0dc", BLUE, "#06142b"])
_FEWEST_IN_BIN = 25
_MOST_BINS = 12


def redshift_figure(z_pred: Values, z_spec: Values) -> Figure:
    """Predicted against spectroscopic redshift as a density, with the identity and |Δz| = 0.05."""
    with style():
        figure = Figure(figsize=(5.2, 5.0), layout="constrained")
        axes = figure.subplots()
        low = min(0.0, float(np.percentile(np.concatenate([z_pred, z_spec]), 0.1)))
        top = max(float(np.percentile(np.concatenate([z_pred, z_spec]), 99.9)) * 1.05, low + 0.01)
        span = (low, top)
        _density(figure, axes, z_spec, z_pred, span, span)
        grid = np.array(span)
        axes.plot(grid, grid, color=GREY, linewidth=1, label="equal")
        for sign in (-1, 1):
            edge = grid + sign * OUTLIER * (1 + grid)
            label = f"|Δz| = {OUTLIER}" if sign > 0 else None
            axes.plot(grid, edge, color=GREY, linewidth=1, linestyle="--", label=label)
        axes.set(xlim=span, ylim=span, xlabel="spectroscopic redshift", ylabel="predicted redshift")
        axes.set_aspect("equal")
        axes.legend(**_LEGEND)
        return figure


def residual_figure(x: Values, residual: Values, x_label: str) -> Figure:
    """Δz against `x` as a density, with the running median and where 68% of the galaxies lie."""
    with style():
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.subplots()
        left, right = (float(edge) for edge in np.percentile(x, [0.2, 99.8]))
        if left == right:
            left, right = left - 0.5, right + 0.5
        reach = max(1.2 * OUTLIER, 1.1 * float(np.percentile(np.abs(residual), 99.7)))
        _density(figure, axes, x, residual, (left, right), (-reach, reach))
        for level in (-OUTLIER, OUTLIER):
            label = f"|Δz| = {OUTLIER}" if level > 0 else None
            axes.axhline(level, color=GREY, linewidth=1, linestyle="--", label=label)
        axes.axhline(0, color=GREY, linewidth=1)
        _running(axes, x, residual)
        axes.set(xlim=(left, right), ylim=(-reach, reach), xlabel=x_label, ylabel="Δz")
        axes.legend(**_LEGEND)
        return figure


def histogram_figure(z_pred: Values) -> Figure:
    """Histogram of the predicted redshifts."""
    with style():
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.hist(z_pred, bins=int(np.clip(np.sqrt(len(z_pred)), 5, 80)), color=BLUE, edgecolor="white", linewidth=0.4)
        axes.set(xlabel="predicted redshift", ylabel="galaxies")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def _density(
    figure: Figure, axes: "Axes", x: Values, y: Values, x_span: tuple[float, float], y_span: tuple[float, float]
) -> None:
    """Galaxies per cell on a logarithmic scale; the fewer the galaxies, the wider the cells."""
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
