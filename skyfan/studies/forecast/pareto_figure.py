"""The Pareto figure: wall time against cost of every alternative, with a line along the front."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skyfan.report.drawing import Bbox, Figure, mpl
from skyfan.report.figures import BLUE, ORANGE, plain_log_ticks
from skyfan.studies.forecast.predict import Forecast, pareto, recommend
from skyfan.units import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The shape of a mark stands for the memory size.
_FRONT, _OTHER, _BAD = BLUE, "#999999", ORANGE
_MARKS = "osD^vPhp"


def plot_pareto(forecasts: Sequence[Forecast], path: Path, title: str = "") -> None:
    """Writes the figure (SVG, PDF or PNG by the name's ending).

    The front's points carry their partition size, where there is room, and as a bar the 10th to 90th percentile of
    the wall time; the recommended ones are named. Alternatives that cannot run within Lambda's limits are crosses.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    front = pareto(forecasts)
    axes.plot([one.wall_s for one in front], [one.cost_usd for one in front], color=_FRONT, lw=1, zorder=1)
    _draw_points(axes, forecasts, front)
    axes.set(xscale="log", yscale="log", xlabel="wall time / s", ylabel="cost / USD", title=title)
    for axis in (axes.xaxis, axes.yaxis):
        plain_log_ticks(axis)
    axes.margins(x=0.2)
    _name(figure, axes, forecasts, front)
    axes.grid(visible=True, lw=0.3, alpha=0.6)
    axes.legend(title="memory", fontsize=8, title_fontsize=8, frameon=False)
    with mpl.rc_context({"svg.fonttype": "none"}):  # text stays text: searchable, and smaller
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_points(axes: "Axes", forecasts: Sequence[Forecast], front: Sequence[Forecast]) -> None:
    sizes = sorted({one.memory_mb for one in forecasts})
    for mark, size_mb in zip(_MARKS * (1 + len(sizes) // len(_MARKS)), sizes, strict=False):
        axes.plot([], [], mark, color=_FRONT, ms=5, ls="", label=f"{size_mb:,} MB")
        for one in (one for one in forecasts if one.memory_mb == size_mb):
            on_front = one in front
            colour = _FRONT if on_front else _BAD if one.warnings else _OTHER
            shape = "x" if one.warnings else mark
            axes.plot(one.wall_s, one.cost_usd, shape, color=colour, ms=5, zorder=3 if on_front else 2)
            if on_front:
                axes.hlines(one.cost_usd, one.wall_low_s, one.wall_high_s, color=colour, lw=0.8, alpha=0.4)


def _name(figure: Figure, axes: "Axes", forecasts: Sequence[Forecast], front: Sequence[Forecast]) -> None:
    """Labels the recommended points, then each other point whose label covers no label and no mark."""
    if not front:
        return
    figure.canvas.draw()  # gives every artist its position
    taken = [_mark(axes, one) for one in forecasts]
    wishes = recommend(forecasts)
    for one in sorted(front, key=lambda one: not wishes.names_of(one)):
        words = wishes.names_of(one)
        label = ", ".join([format_size(one.partition_size_bytes), *words])
        style = {"fontsize": 8, "fontweight": "bold"} if words else {"fontsize": 7}
        position = (one.wall_s, one.cost_usd)
        for offset, side, edge in (((5, 4), "left", "bottom"), ((-5, -4), "right", "top")):
            text = axes.annotate(
                label, position, offset, textcoords="offset points", color=_FRONT, ha=side, va=edge, **style
            )
            box = text.get_window_extent()
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if (inside and not any(box.overlaps(other) for other in taken)) or (words and side == "right"):
                taken.append(box)
                break
            text.remove()


def _mark(axes: "Axes", one: Forecast) -> Bbox:
    """The box around the mark of a forecast, in pixels."""
    x, y = axes.transData.transform((one.wall_s, one.cost_usd))
    return Bbox.from_bounds(x - 3, y - 3, 6, 6)
