"""The Pareto figure: wall time against cost of every alternative, the front drawn through."""

from collections.abc import Sequence
from pathlib import Path

from skyfan.forecast.predict import Forecast, pareto
from skyfan.units import format_size

# Okabe and Ito's palette: told apart with every kind of colour vision.
_FRONT, _OTHER, _BAD = "#0072B2", "#999999", "#D55E00"


def plot_pareto(forecasts: Sequence[Forecast], path: Path, title: str = "") -> None:
    """Writes the figure (SVG, PDF or PNG by the name's ending). Bars are the 10th to 90th percentile.

    Alternatives that cannot run within Lambda's limits are crosses.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    front = pareto(forecasts)
    axes.plot([one.wall_s for one in front], [one.cost_usd for one in front], color=_FRONT, lw=1.2, zorder=1)
    for one in forecasts:
        colour = _BAD if one.warnings else _FRONT if one in front else _OTHER
        below, above = one.wall_s - one.wall_low_s, one.wall_high_s - one.wall_s
        axes.errorbar(
            one.wall_s,
            one.cost_usd,
            xerr=[[below], [above]],
            fmt="x" if one.warnings else "o",
            color=colour,
            ms=5,
            lw=0.8,
            capsize=2,
        )
        label = f"{format_size(one.partition_size_bytes)} · {one.memory_mb / 1024:g} GB"
        axes.annotate(label, (one.wall_s, one.cost_usd), (4, 5), textcoords="offset points", fontsize=7, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="wall time / s", ylabel="cost / USD", title=title)
    axes.grid(visible=True, which="both", lw=0.3, alpha=0.5)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # letters stay letters: searchable, and smaller
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
