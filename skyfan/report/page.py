"""The page of one run: one file, no network, readable on a phone, in the dark and without colour vision."""

import heapq
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from skyfan.progress.warnings import trained_note
from skyfan.records import RankRecord, ScienceBin, Summary
from skyfan.report.class_figures import MAX_BARS, calibration_figure, confidence_figure, count_figure
from skyfan.report.drawing import on_drawing_thread
from skyfan.report.figures import page_svg, timeline_figure
from skyfan.report.galaxies import Galaxies, Observed, RedshiftSample
from skyfan.report.gallery import gallery_note, gallery_title, shown_outlier
from skyfan.report.redshift_figures import (
    distribution_figure,
    histogram_figure,
    pit_figure,
    redshift_figure,
    residual_figure,
)
from skyfan.science.metrics import SCIENCE_LABELS, science_rows, with_error
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
_BIN_LABELS = {
    "bias": "bias",
    "nmad": "NMAD",
    "sigma68": "σ68",
    "outlier_fraction_005": "|Δz| > 0.05",
    "outlier_fraction_015": "|Δz| > 0.15",
    "coverage": "in 68% interval",
    "crps": "CRPS",
}
_MAX_CONFUSION = 20
"""Classes that a table of them all holds on a page."""

Section = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """What is drawn for a page from records and galaxies alone: it can be drawn before there is a summary."""

    figures: list[Section]
    timeline: Markup | None
    outliers: list[Section]
    note: str


@on_drawing_thread
def draw_pictures(records: Sequence[RankRecord], redshifts: RedshiftSample, seen: Observed) -> Pictures:
    """`seen` holds what was read from the dataset."""
    return Pictures(
        figures=redshift_sections(redshifts, seen),
        timeline=rank_timeline(records),
        outliers=[shown_outlier(one, seen.rows_of.get(one.index)) for one in seen.outliers],
        note=gallery_note(seen),
    )


@on_drawing_thread
def fill_page(summary: Summary, records: Sequence[RankRecord], pictures: Pictures) -> str:
    """The page as HTML text."""
    listed = sorted(heapq.nlargest(MAX_LISTED_RANKS, records, key=lambda r: r.wall_s), key=lambda r: r.rank)
    return _ENVIRONMENT.from_string(
        _part("run.html")
    ).render(
        css=Markup(_part("run.css")),  # noqa: S704 (packaged)
        script=Markup(_part("sort.js")),  # noqa: S704 (packaged)
        title=title(summary),
        summary=summary,
        done=summary.completeness,
        export_command=_export_command(summary),
        failures=list(summary.failures.items())[:_MAX_LISTED_FAILURES],
        science=_metrics(summary),
        trained_note=trained_note(summary) if summary.trained_samples else "",
        bins=bin_tables(summary.science_bins),
        figures=[*pictures.figures, *_pit_section(summary), *_class_sections(summary)],
        confusion=_confusion(summary),
        timeline=pictures.timeline,
        outliers=pictures.outliers,
        gallery_title=gallery_title(summary),
        gallery_note=pictures.note,
        columns=_COLUMNS,
        records=listed,
        hidden_ranks=len(records) - len(listed),
        size=format_size,
        duration=format_duration,
    )


def _export_command(summary: Summary) -> str:
    """For a shell: a run in which samples are missing is exported with that said."""
    allowed = " --allow-missing" if summary.completeness.samples_missing else ""
    return f"skyfan export {shlex.quote(summary.output)} sky.parquet{allowed}"


def title(summary: Summary) -> str:
    """What was predicted, how good it is: `Photo-z of demo.pt: 1,000 galaxies, NMAD 0.0143 ± 0.0007`."""
    name = PurePath(summary.dataset.rstrip("/")).name or summary.dataset
    count = f"{summary.completeness.samples_predicted:,}"
    if summary.science:
        unseen = summary.science_unseen
        errors = summary.science_unseen_errors if unseen else summary.science_errors
        nmad = with_error("{:.4f}", (unseen or summary.science).get("nmad"), errors.get("nmad"))
        of_which = f" of the {unseen['samples']:,.0f} not trained on" if unseen else ""
        return f"Photo-z of {name}: {count} galaxies, NMAD {nmad}{of_which}"
    if summary.classes:
        accuracy = "" if summary.classes.accuracy is None else f", accuracy {summary.classes.accuracy:.1%}"
        return f"Classes of {name}: {count} samples{accuracy}"
    return f"Predictions for {name}: {count} samples"


def _metrics(summary: Summary) -> list[tuple[str, ...]]:
    """Label and value of each metric; where the model was trained on some of the galaxies, that of the others, too."""
    over_all = science_rows(summary.science, summary.science_errors)
    unseen = dict(science_rows(summary.science_unseen, summary.science_unseen_errors))
    return [(label, value, unseen.get(label, "")) for label, value in over_all] if unseen else [*over_all]


def _part(name: str) -> str:
    return resources.files("skyfan.report").joinpath(name).read_text(encoding="utf-8")


def redshift_sections(redshifts: RedshiftSample, seen: Observed) -> list[Section]:
    """Title and SVG of each figure of redshifts; a histogram where no spectroscopic redshift is known."""
    galaxies = redshifts.galaxies
    if galaxies is not None:
        return _figures_of(galaxies, seen)
    z_pred = redshifts.z_pred
    if not len(z_pred):
        return []
    heading = "Predicted redshifts (no spectroscopic ones are known)"
    alt = f"Histogram of the predicted redshifts of {len(z_pred):,} galaxies, median {np.median(z_pred):.3f}"
    return [_section(heading, histogram_figure(z_pred), "histogram", alt)]


def _figures_of(galaxies: Galaxies, seen: Observed) -> list[Section]:
    z_spec, residual = galaxies.z_spec, galaxies.residual
    count = f"{len(z_spec):,} galaxies"
    figures = [
        _section(
            "Predicted against spectroscopic redshift",
            redshift_figure(galaxies.z_pred, z_spec),
            "density",
            f"Density of predicted against spectroscopic redshift of {count}",
        ),
        _section(
            "Residuals against redshift",
            residual_figure(z_spec, residual, "spectroscopic redshift"),
            "by-redshift",
            f"Density and running median of Δz against spectroscopic redshift of {count}",
        ),
    ]
    if seen.rows is not None and seen.r_magnitude is not None:
        known = np.isfinite(seen.r_magnitude)
        rows, magnitude = seen.rows[known], seen.r_magnitude[known]
        if len(rows):
            figures.append(
                _section(
                    "Residuals against magnitude",
                    residual_figure(magnitude, residual[rows], "r magnitude"),
                    "by-magnitude",
                    f"Density and running median of Δz against r magnitude of {len(rows):,} galaxies",
                )
            )
    alt = f"Histograms of predicted and spectroscopic redshift of {count}"
    figures.append(
        _section("N(z), predicted over spectroscopic", distribution_figure(galaxies.z_pred, z_spec), "nz", alt)
    )
    return figures


def _pit_section(summary: Summary) -> list[Section]:
    if summary.pit_counts is None:
        return []
    alt = f"Histogram of PIT of {sum(summary.pit_counts):,} galaxies; uniform is calibrated"
    return [_section("PIT: is p(z) as wide as its errors?", pit_figure(summary.pit_counts), "pit", alt)]


def _class_sections(summary: Summary) -> list[Section]:
    classes = summary.classes
    if classes is None:
        return []
    more = len(classes.names) - MAX_BARS
    heading = "Samples by class" + (f" ({more:,} smaller classes are in summary.json)" if more > 0 else "")
    figures = [
        _section(heading, count_figure(classes.names, classes.counts), "classes", "Number of samples of each class"),
        _section("Confidence", confidence_figure(classes.confidence), "confidence", "Histogram of the confidence"),
    ]
    if classes.calibration:
        alt = f"Accuracy against confidence of {classes.labelled:,} samples"
        heading = f"Calibration: expected error {classes.calibration_error:.3f}"
        figures.append(_section(heading, calibration_figure(classes), "calibration", alt))
    return figures


def _section(heading: str, figure: Any, name: str, alt: str) -> Section:
    return {"title": heading, "svg": page_svg(figure, name, alt)}


def _confusion(summary: Summary) -> Section | None:
    """Rows of true classes; None where they are not known, or too many for a table."""
    classes = summary.classes
    if classes is None or classes.confusion is None or len(classes.names) > _MAX_CONFUSION:
        return None
    return {"names": classes.names, "rows": list(zip(classes.names, classes.confusion, strict=True))}


def bin_tables(bins: Sequence[ScienceBin]) -> list[Section]:
    """A table for each quantity that there are bins of: headings, and rows of cells."""
    forms = {key: form for key, _, form in SCIENCE_LABELS}
    tables = []
    for by in dict.fromkeys(one.by for one in bins):
        of_one = [one for one in bins if one.by == by]
        keys = [key for key in _BIN_LABELS if key in of_one[0].metrics]
        rows = [
            [
                f"{one.low:.3f} to {one.high:.3f}",
                f"{one.metrics.get('samples') or 0:,.0f}",
                *(with_error(_short(forms[key]), one.metrics.get(key), one.errors.get(key)) for key in keys),
            ]
            for one in of_one
        ]
        tables.append({"by": by, "headings": [by, "galaxies", *(_BIN_LABELS[key] for key in keys)], "rows": rows})
    return tables


def _short(form: str) -> str:
    """One digit less than of all galaxies together."""
    return form.replace(".5f", ".4f").replace(".2%", ".1%")


def rank_timeline(records: Sequence[RankRecord]) -> Markup | None:
    """The ranks by phase over time as an SVG; None without records."""
    if not records:
        return None
    figure = timeline_figure([record.to_json_dict() for record in records], size=(8.0, 2.4))
    slowest = max(record.wall_s for record in records)
    alt = f"Timeline of {len(records):,} ranks by phase; the slowest took {format_duration(slowest)}"
    return page_svg(figure, "timeline", alt)
