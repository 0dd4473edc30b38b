"""The figures of a study: labelled, with units; lines differ by colour and by the shape of their marks."""

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from skyfan.cost import Prices, bill, rank_times, usage_of_ranks
from skyfan.report.drawing import Figure, MaxNLocator
from skyfan.report.figures import BLUE, GREEN, GREY, ORANGE, new_figure, plain_log_ticks, style, timeline_figure
from skyfan.studies.bench.measurements import Measurement
from skyfan.studies.bench.study import Setting
from skyfan.studies.bench.study_tables import Group, groups
from skyfan.units import parse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (5.2, 3.4)
_COLOURS = (BLUE, ORANGE, GREEN, GREY, "#CC79A7", "#E69F00")
_MARKS = "osD^vP"
_MOST_WITHIN = 3
_OPTION_WORDS = {
    "on": "{}",
    "place": "{}",
    "layout": "{}",
    "partition_size": "{} partitions",
    "repeat": "{}× data",
    "file_limit": "at most {} partitions",
    "world_size": "{} ranks",
    "workers": "{} at once",
    "batch_size": "batch {}",
}
# The inside of the axes is white on a dark page too.
_LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": "black"}

Metric = Callable[[Measurement], float]


def against(
    measurements: Sequence[Measurement],
    axis: Callable[[Setting], float],
    metric: Metric,
    x_label: str,
    y_label: str,
    series: Callable[[Setting], str] = lambda _: "",
) -> Figure:
    """Median of `metric` against `axis` with bars from minimum to maximum, one line per series."""
    with new_figure(*_SIZE) as (figure, axes):
        lines: dict[str, list[Group]] = {}
        for group in groups(measurements):
            lines.setdefault(series(group[0]), []).append(group)
        for number, (label, members) in enumerate(lines.items()):
            _line(axes, number, label, members, axis, metric)
        axes.set(xlabel=x_label, ylabel=y_label, xscale="log", ylim=(0, 1.05 * axes.get_ylim()[1]))
        plain_log_ticks(axes.xaxis, sorted({axis(one.setting) for one in measurements}))
        if len(lines) > 1:
            _name_lines(figure, list(lines))
        return figure


def _name_lines(figure: Figure, labels: Sequence[str]) -> None:
    """A legend within the axes; with many lines it stands below them, and the figure grows by its height."""
    if len(labels) <= _MOST_WITHIN:
        figure.axes[0].legend(**_LEGEND)
        return
    columns = 2 if max(map(len, labels)) < 28 else 1
    width, height = _SIZE
    figure.set_size_inches(width, height + 0.18 * -(-len(labels) // columns))
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _line(
    axes: "Axes", number: int, label: str, members: Sequence[Group], axis: Callable[[Setting], float], metric: Metric
) -> None:
    values = [[metric(one) for one in ones] for _, ones in members]
    middle = [statistics.median(each) for each in values]
    reach = [
        [median - min(each) for median, each in zip(middle, values, strict=True)],
        [max(each) - median for median, each in zip(middle, values, strict=True)],
    ]
    axes.errorbar(
        [axis(setting) for setting, _ in members],
        middle,
        yerr=reach,
        color=_COLOURS[number % len(_COLOURS)],
        marker=_MARKS[number % len(_MARKS)],
        markersize=5,
        linewidth=1.2,
        capsize=3,
        label=label,
    )


def partition_mb(setting: Setting) -> float:
    """Partition size of the setting in MB."""
    return parse_size(setting.partition_size) / 2**20


def named_by(measurements: Sequence[Measurement], *drawn: str) -> Callable[[Setting], str]:
    """A function that names the line of a setting: by the options that vary, without those in `drawn`."""
    varied = [
        name
        for name in _OPTION_WORDS
        if name not in drawn and len({getattr(one.setting, name) for one in measurements}) > 1
    ]
    words = {"one": "one file", "many": "many files", "s3": "S3"}
    return lambda setting: ", ".join(
        words.get(value := getattr(setting, name), _OPTION_WORDS[name].format(value)) for name in varied
    )


def against_batch(measurements: Sequence[Measurement], metric: Metric, y_label: str) -> Figure:
    """`metric` against batch size."""
    series = named_by(measurements, "batch_size")
    return against(measurements, lambda one: one.batch_size, metric, "batch size (samples)", y_label, series)


def against_partitions(measurements: Sequence[Measurement], metric: Metric, y_label: str) -> Figure:
    """`metric` against partition size."""
    series = named_by(measurements, "partition_size")
    return against(measurements, partition_mb, metric, "partition size (MB)", y_label, series)


def cost_against_data(measurements: Sequence[Measurement], prices: Prices) -> Figure:
    """What Lambda would bill against the amount of data, one line per partition size."""
    data_gb = {
        setting.repeat: max(one.bytes_read for one in members) / 2**30 for setting, members in groups(measurements)
    }
    return against(
        measurements,
        lambda one: round(data_gb[one.repeat], 3),
        lambda one: bill(usage_of_ranks(rank_times(one.records)), prices).total_usd,
        "data (GB)",
        "cost on Lambda (USD)",
        named_by(measurements, "repeat"),
    )


def scaling_efficiency(measurements: Sequence[Measurement]) -> Figure:
    """Speed-up over the smallest number of ranks at once, with the ideal line."""
    series = named_by(measurements, "workers")
    fewest = min(one.setting.workers or 1 for one in measurements)
    first_s = {
        series(setting): statistics.median(one.wall_s for one in members)
        for setting, members in groups(measurements)
        if (setting.workers or 1) == fewest
    }
    figure = against(
        measurements,
        lambda one: one.workers or 1,
        lambda one: first_s[series(one.setting)] / one.wall_s,
        "ranks at once",
        f"speed-up over {fewest} at once",
        series,
    )
    counts = sorted({one.setting.workers or 1 for one in measurements})
    with style():
        axes = figure.axes[0]
        axes.plot(counts, [count / fewest for count in counts], color=GREY, linestyle="--", linewidth=1, label="ideal")
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * counts[-1] / fewest))
        if len(figure.legends) == 0:
            axes.legend(**_LEGEND)
    return figure


def reading(measurements: Sequence[Measurement]) -> Figure:
    """Mean seconds of reading per rank, and how long compute waited for it: two bars per setting."""
    series = named_by(measurements)
    found = groups(measurements)
    with new_figure(*_SIZE) as (figure, axes):
        for shift, key, label, colour in ((-0.2, "read_s", "reading", BLUE), (0.2, "wait_s", "compute waited", ORANGE)):
            means = [statistics.median(one.rank_mean(key) for one in members) for _, members in found]
            axes.barh([row + shift for row in range(len(found))], means, 0.36, color=colour, label=label)
        axes.set_yticks(range(len(found)), [series(setting) for setting, _ in found])
        axes.invert_yaxis()
        axes.set(xlabel="time of a rank (s)")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        return figure


def rank_durations(measurements: Sequence[Measurement]) -> Figure:
    """Histogram of the ranks' wall seconds."""
    seconds = [record["wall_s"] for one in measurements for record in one.records]
    with new_figure(*_SIZE) as (figure, axes):
        axes.hist(seconds, bins="auto", color=BLUE, edgecolor="white", linewidth=0.5)
        axes.set(xlabel="duration of a rank (s)", ylabel="ranks")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def rank_timeline(one: Measurement) -> Figure:
    """One bar per rank, by phase, since the first rank's start."""
    return timeline_figure(one.records, _SIZE)
