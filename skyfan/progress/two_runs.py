"""Two runs side by side, as the reference system's second report puts local and AWS."""

from collections.abc import Callable
from dataclasses import dataclass

from skyfan.records import Summary
from skyfan.science.metrics import SCIENCE_LABELS, with_error
from skyfan.units import format_duration


@dataclass(frozen=True)
class ComparedRow:
    """A metric of two runs: the numbers, how they are shown, and the second over the first."""

    metric: str
    values: tuple[float | None, float | None]
    shown: tuple[str, str]

    @property
    def ratio(self) -> float | None:
        """None where one of them is unknown, or the first is 0."""
        one, other = self.values
        return other / one if one and other is not None else None


_WORK: tuple[tuple[str, Callable[[Summary], float | None], Callable[[float], str]], ...] = (
    ("samples predicted", lambda one: one.completeness.samples_predicted, "{:,.0f}".format),
    ("ranks", lambda one: one.completeness.ranks_present, "{:,.0f}".format),
    ("workers", lambda one: one.workers, "{:,.0f}".format),
    ("wall time", lambda one: one.timing.wall_s, format_duration),
    ("map time", lambda one: one.timing.map_s, format_duration),
    ("median rank", lambda one: one.timing.rank_s_median, format_duration),
    ("slowest rank", lambda one: one.timing.rank_s_max, format_duration),
    ("samples/s by wall time", lambda one: one.throughput.samples_per_s_wall, "{:,.1f}".format),
    ("samples/s by map time", lambda one: one.throughput.samples_per_s_map, "{:,.1f}".format),
    ("AWS Lambda (estimate)", lambda one: one.cost.total_usd if one.cost else None, "${:,.4f}".format),
)


def compare(one: Summary, other: Summary) -> list[ComparedRow]:
    """What both runs took, and how good they are; rows that neither knows are left out."""
    rows = []
    for metric, value, form in _WORK:
        values = (value(one), value(other))
        shown = tuple("" if number is None else form(number) for number in values)
        rows.append(ComparedRow(metric, values, (shown[0], shown[1])))
    for key, label, text in SCIENCE_LABELS:
        found = [(each.science or {}).get(key) for each in (one, other)]
        texts = [
            "" if number is None else with_error(text, number, each.science_errors.get(key))
            for number, each in zip(found, (one, other), strict=True)
        ]
        rows.append(ComparedRow(label.strip(), (found[0], found[1]), (texts[0], texts[1])))
    return [row for row in rows if row.values != (None, None)]


def same_work(one: Summary, other: Summary) -> str:
    """Whether both runs computed the same, and if not, in what they differ."""
    if one.run_id == other.run_id:
        return "Both are the same run: same data, model, partitions and options"
    differing = [
        name
        for name, same in (
            ("dataset", one.dataset == other.dataset),
            ("model", one.model_digest == other.model_digest),
            ("number of ranks", one.world_size == other.world_size),
            ("options", one.options == other.options),
        )
        if not same
    ]
    return f"The runs differ in {', '.join(differing) or 'the contents of their files'}"
