"""Figures of one run, drawn for a page or a paper: labelled, with units, colour-blind safe."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

# Okabe & Ito (2008), "Color Universal Design": distinguishable with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b7280"

_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    # The same picture for the same run, so that a report written twice is the same page.
    "svg.hashsalt": "skyfan",
}


@contextmanager
def style() -> Iterator[None]:
    """Skyfan's look, for the figures made inside."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that can stand in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def redshift_figure(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> Figure:
    """Predicted against spectroscopic redshift as a density, with the identity and |Δz| = 0.05."""
    with style():
        figure = Figure(figsize=(5.2, 4.6), layout="constrained")
        axes = figure.subplots()
        top = float(np.nanpercentile(np.concatenate([z_pred, z_spec]), 99.9)) * 1.05
        grid = np.array([0.0, top])
        bins = np.linspace(0, top, 90)
        counts, _, _ = np.histogram2d(z_spec, z_pred, bins=(bins, bins))
        image = axes.pcolormesh(
            bins,
            bins,
            np.where(counts > 0, counts, np.nan).T,
            cmap="viridis",
            norm=LogNorm(1, max(2.0, float(counts.max()))),
            rasterized=True,
        )
        axes.plot(grid, grid, color=GREY, linewidth=1, label="equal")
        for sign in (-1, 1):
            edge = grid + sign * 0.05 * (1 + grid)
            axes.plot(grid, edge, color=ORANGE, linewidth=1, linestyle="--", label="|Δz| = 0.05" if sign > 0 else None)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="spectroscopic redshift", ylabel="predicted redshift")
        axes.set_aspect("equal")
        axes.legend(frameon=False, loc="upper left")
        figure.colorbar(image, ax=axes, label="galaxies per cell", shrink=0.85)
        return figure


def timeline_figure(spans_s: list[tuple[float, float]]) -> Figure:
    """One bar a rank from its start to its end, in seconds since the first rank's start."""
    with style():
        figure = Figure(figsize=(5.2, 2.6), layout="constrained")
        axes = figure.subplots()
        starts = [start for start, _ in spans_s]
        widths = [stop - start for start, stop in spans_s]
        axes.barh(range(len(spans_s)), widths, left=starts, color=BLUE, height=0.8)
        axes.set(xlabel="time since the first rank began (s)", ylabel="rank")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.invert_yaxis()
        axes.margins(y=0.02)
        return figure
