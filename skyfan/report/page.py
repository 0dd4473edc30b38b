"""The page of one run: one file, no network, readable on a phone and without colour vision."""

import heapq
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from skyfan.records import RankRecord, Summary
from skyfan.report.cutouts import png_data_uri
from skyfan.report.figures import page_svg, timeline_figure
from skyfan.report.galaxies import Galaxies, Observed, Outlier, RedshiftSample
from skyfan.report.redshift_figures import histogram_figure, redshift_figure, residual_figure
from skyfan.science.metrics import science_rows
from skyfan.units import format_duration, format_size

_ENVIRONMENT = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)
MAX_LISTED_RANKS = 1000
_MAX_LISTED_FAILURES = 20
_COLUMNS = (
    "rank",
    "samples",
    "missing",
    "attempt",
    "wall (s)",
    "wait (s)",
    "compute (s)",
    "CPU (s)",
    "memory",
    "samples/s",
)


def render_run(
    summary: Summary, records: Sequence[RankRecord], redshifts: RedshiftSample, observed: Observed | None = None
) -> str:
    """The page as HTML text; `observed` holds what was read from the dataset, None where nothing was."""
    seen = observed or Observed()
    listed = sorted(heapq.nlargest(MAX_LISTED_RANKS, records, key=lambda r: r.wall_s), key=lambda r: r.rank)
    return _ENVIRONMENT.from_string(
        _part("run.html")
    ).render(
        css=Markup(_part("run.css")),  # noqa: S704 (packaged)
        script=Markup(_part("sort.js")),  # noqa: S704 (packaged)
        summary=summary,
        done=summary.completeness,
        failures=list(summary.failures.items())[:_MAX_LISTED_FAILURES],
        science=science_rows(summary.science),
        figures=redshift_sections(redshifts, seen),
        timeline=rank_timeline(records),
        outliers=[_shown(one) for one in seen.outliers],
        gallery_note=_gallery_note(seen),
        columns=_COLUMNS,
        records=listed,
        hidden_ranks=len(records) - len(listed),
        size=format_size,
        duration=format_duration,
    )


def _part(name: str) -> str:
    return resources.files("skyfan.report").joinpath(name).read_text(encoding="utf-8")


def redshift_sections(redshifts: RedshiftSample, seen: Observed) -> list[dict[str, Any]]:
    """Title and SVG of each figure of redshifts; a histogram where no spectroscopic redshift is known."""
    galaxies = redshifts.galaxies
    if galaxies is not None:
        return _figures_of(galaxies, seen)
    z_pred = redshifts.z_pred
    if not len(z_pred):
        return []
    title = "Predicted redshifts (no spectroscopic ones are known)"
    alt = f"Histogram of the predicted redshifts of {len(z_pred):,} galaxies, median {np.median(z_pred):.3f}"
    return [{"title": title, "svg": page_svg(histogram_figure(z_pred), "histogram", alt)}]


def _figures_of(galaxies: Galaxies, seen: Observed) -> list[dict[str, Any]]:
    z_spec, residual = galaxies.z_spec, galaxies.residual
    count = f"{len(z_spec):,} galaxies"
    density = redshift_figure(galaxies.z_pred, z_spec)
    figures = [
        {
            "title": "Predicted against spectroscopic redshift",
            "svg": page_svg(density, "density", f"Density of predicted against spectroscopic redshift of {count}"),
        },
        {
            "title": "Residuals against redshift",
            "svg": page_svg(
                residual_figure(z_spec, residual, "spectroscopic redshift"),
                "by-redshift",
                f"Density and running median of Δz against spectroscopic redshift of {count}",
            ),
        },
    ]
    if seen.rows is not None and seen.r_magnitude is not None:
        known = np.isfinite(seen.r_magnitude)
        rows, magnitude = seen.rows[known], seen.r_magnitude[known]
        if len(rows):
            figures.append(
                {
                    "title": "Residuals against magnitude",
                    "svg": page_svg(
                        residual_figure(magnitude, residual[rows], "r magnitude"),
                        "by-magnitude",
                        f"Density and running median of Δz against r magnitude of {len(rows):,} galaxies",
                    ),
                }
            )
    return figures


def rank_timeline(records: Sequence[RankRecord]) -> Markup | None:
    """The ranks by phase over time as an SVG; None without records."""
    if not records:
        return None
    figure = timeline_figure([record.to_json_dict() for record in records], size=(8.0, 2.4))
    slowest = max(record.wall_s for record in records)
    alt = f"Timeline of {len(records):,} ranks by phase; the slowest took {format_duration(slowest)}"
    return page_svg(figure, "timeline", alt)


def _shown(one: Outlier) -> dict[str, Any]:
    picture = None if one.cutout is None else png_data_uri(one.cutout)
    alt = f"Cut-out of sample {one.index}: redshift {one.z_spec:.3f}, predicted {one.z_pred:.3f}"
    return {**asdict(one), "picture": picture, "alt": alt}


def _gallery_note(seen: Observed) -> str:
    if seen.note:
        return f"{seen.note} So there are no pictures here, and no residuals against magnitude."
    return (
        "z is spectroscopic → predicted. Pictures are the model's own input: colours from g, r and i, with an asinh "
        "stretch, each scaled by itself."
    )
