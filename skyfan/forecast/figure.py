"""The Pareto figure: wall time against cost of every alternative, the front drawn through."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skyfan.forecast.predict import Forecast, pareto, recommend
from skyfan.units import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with every kind of colour vision; the shape of a mark says the memory size.
_FRONT, _OTHER, _BAD = "#0072B2", "#999999", "#D55E00"
_MARKS = "osD^vPhp"


def plot_pareto(forecasts: Sequence[Forecast], path: Path, title: str = "") -> None:
    """Writes the figure (SVG, PDF or PNG by the name's ending).

    The front's points carry their partition size and, as a bar, the 10th to 90th percentile of the wall time; the
    recommended ones are named. Alternatives that cannot run within Lambda's limits are crosses.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    front = pareto(forecasts)
    axes.plot([one.wall_s for one in front], [one.cost_usd for one in front], color=_FRONT, lw=1, zorder=1)
    _draw_points(axes, forecasts, front)
    _name(axes, forecasts, front)
    axes.set(xscale="log", yscale="log", xlabel="wall time / s", ylabel="cost / USD", title=title)
    _plain_ticks(axes)
    axes.margins(x=0.15)
    axes.grid(visible=True, lw=0.3, alpha=0.6)
    axes.legend(title="memory", fontsize=8, title_fontsize=8, frameon=False)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # letters stay letters: searchable, and smaller
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


def _name(axes: "Axes", forecasts: Sequence[Forecast], front: Sequence[Forecast]) -> None:
    if not front:
        return
    wishes = recommend(forecasts)
    named = {"fastest": wishes.fastest, "best trade-off": wishes.trade_off, "cheapest": wishes.cheapest}
    for one in front:
        words = [name for name, chosen in named.items() if chosen is one]
        label = ", ".join([format_size(one.partition_size_bytes), *words])
        style = {"fontsize": 8, "fontweight": "bold"} if words else {"fontsize": 7}
        axes.annotate(label, (one.wall_s, one.cost_usd), (5, 4), textcoords="offset points", color=_FRONT, **style)


def _plain_ticks(axes: "Axes") -> None:
    """1, 2, 5, 10, …, written out, instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
