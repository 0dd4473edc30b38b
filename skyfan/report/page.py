"""The page of one run: one file, no network, readable on a phone and without colour vision."""

from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from skyfan.metrics import science_rows
from skyfan.records import RankRecord, Summary
from skyfan.report.figures import redshift_figure, timeline_figure, to_svg
from skyfan.units import format_duration, format_size

_ENVIRONMENT = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)
_MAX_LISTED_RANKS = 2000


def render_run(summary: Summary, records: tuple[RankRecord, ...], predictions: pa.Table | None) -> str:
    """The page as HTML text."""
    source = resources.files("skyfan.report").joinpath("run.html").read_text(encoding="utf-8")
    return _ENVIRONMENT.from_string(source).render(
        summary=summary,
        records=records[:_MAX_LISTED_RANKS],
        hidden_ranks=max(0, len(records) - _MAX_LISTED_RANKS),
        science=science_rows(summary.science),
        figures=_figures(records, predictions),
        size=format_size,
        duration=format_duration,
    )


def _figures(records: tuple[RankRecord, ...], predictions: pa.Table | None) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    if predictions is not None and {"z_pred", "z_spec"} <= set(predictions.column_names):
        known = predictions.filter(predictions["z_pred"].is_valid()).drop_null()
        if known.num_rows:
            figure = redshift_figure(known["z_pred"].to_numpy(), known["z_spec"].to_numpy())
            figures.append(
                {
                    "svg": Markup(to_svg(figure)),  # noqa: S704 (drawn here, from numbers)
                    "title": "Predicted against spectroscopic redshift",
                    "alt": f"Density of predicted against spectroscopic redshift for {known.num_rows} galaxies",
                }
            )
    if records:
        starts = [datetime.fromisoformat(record.started_at).timestamp() for record in records]
        ends = [datetime.fromisoformat(record.ended_at).timestamp() for record in records]
        first = min(starts)
        spans = [(start - first, end - first) for start, end in zip(starts, ends, strict=True)]
        figures.append(
            {
                "svg": Markup(to_svg(timeline_figure(spans))),  # noqa: S704 (drawn here, from numbers)
                "title": "When each rank ran",
                "alt": f"Timeline of {len(records)} ranks",
            }
        )
    return figures
