"""What all figures share: style, colours, ticks, SVG for a page; and the timeline of ranks."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from skyfan.report.drawing import Figure, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PolyCollection, mpl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Okabe & Ito (2008), "Color Universal Design": distinguishable with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b7280"
PHASES = (("load", GREY), ("wait", ORANGE), ("compute", BLUE), ("write", GREEN))

# More bars than this are drawn as pixels: as shapes they would be most of the page's bytes.
_MAX_SHAPES = 400
# More ticks than this do not fit an axis.
_MAX_LABELLED = 8
_MAX_NAMED_RANKS = 12
_INK = "#1c2430"
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    # The same picture for the same run, so that a report written twice is the same page.
    "svg.hashsalt": "skyfan",
}


@contextmanager
def style() -> Iterator[None]:
    """Skyfan's look, for the figures made and saved inside."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, "Axes"]]:
    """A figure of this size in inches with one pair of axes, in Skyfan's look while it is drawn."""
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, which is also a valid file."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def page_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as a part of an HTML page: described by `alt`, with lines and letters in the page's own colour.

    `name` is the prefix of its ids, so that they differ from those of other figures on the page.
    """
    with style():
        figure.set_facecolor("none")
        for axes in figure.axes:
            axes.set_facecolor("none")
        text = to_svg(figure)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text).replace(_INK, "currentColor")
    label = f'<svg role="img" aria-label="{escape(alt)}"'
    return Markup(text.replace("<svg", label, 1))  # noqa: S704 (drawn here, from numbers)


def plain_log_ticks(axis: "Axis", values: Sequence[float] = ()) -> None:
    """Labels a logarithmic axis with plain numbers: at `values` where these are few, else at 1, 2, 5, 10, …."""
    if values and len(values) <= _MAX_LABELLED:
        axis.set_ticks(values)
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def timeline_figure(records: Sequence[Mapping[str, Any]], size: tuple[float, float] = (5.2, 3.0)) -> Figure:
    """One bar per rank, by phase, in the order of their starts; it shows launch skew and stragglers.

    `records` are rank records as their JSON holds them. The phases (load, wait for data, compute, write) are drawn one
    after another, although wait and compute alternate in fact. `size` is in inches.
    """
    starts = np.array([datetime.fromisoformat(record["started_at"]).timestamp() for record in records])
    order = np.argsort(starts, kind="stable")
    left = starts[order] - starts.min()
    with new_figure(*size) as (figure, axes):
        for phase, colour in PHASES:
            widths = np.array([float(records[row][f"{phase}_s"]) for row in order])
            _bars(axes, left, widths, colour, phase)
            left = left + widths
        axes.set(
            xlim=(0, float(left.max()) * 1.02 or 1.0),
            ylim=(len(order) - 0.5, -0.5),
            xlabel="time since the first rank began (s)",
            ylabel="ranks, by start",
        )
        if len(order) <= _MAX_NAMED_RANKS:
            axes.set(
                ylabel="rank", yticks=range(len(order)), yticklabels=[records[row].get("rank", row) for row in order]
            )
        else:
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return figure


def _bars(axes: "Axes", left: NDArray[np.floating], widths: NDArray[np.floating], colour: str, label: str) -> None:
    rows = np.arange(len(left))
    corners = [(left, rows - 0.45), (left + widths, rows - 0.45), (left + widths, rows + 0.45), (left, rows + 0.45)]
    vertices = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    bars = PolyCollection(
        list(vertices), facecolor=colour, linewidth=0, label=label, rasterized=len(rows) > _MAX_SHAPES
    )
    axes.add_collection(bars)
