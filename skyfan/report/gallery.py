"""The galaxies with pictures on a page: outliers of redshift, or samples with unusual embeddings."""

import math
from typing import Any
from urllib.parse import urlencode

from skyfan.records import Summary
from skyfan.report.cutouts import png_data_uri
from skyfan.report.figures import page_svg
from skyfan.report.galaxies import Observed, Outlier
from skyfan.report.redshift_figures import curve_figure
from skyfan.report.shown_rows import ShownRow

_VIEWER = "https://www.legacysurvey.org/viewer?"
"""Shows the sky at a position; a link, so that nothing is asked for before a reader follows it."""


def gallery_title(summary: Summary) -> str:
    """What the pictures are of."""
    if summary.anomalies:
        return f"Most unusual by {summary.anomalies.output}"
    return "Largest |Δz|"


def gallery_note(seen: Observed) -> str:
    """How the pictures were made, or why there are none."""
    if seen.note:
        return f"{seen.note} So there are no pictures here, and no residuals against magnitude."
    redshifts = (
        "z is spectroscopic → predicted; in p(z) the line is the spectroscopic redshift, the dashed one the predicted. "
        if any(one.z_spec is not None for one in seen.outliers)
        else ""
    )
    return (
        f"{redshifts}Pictures are the model's own input: colours from g, r and i, with an asinh stretch, "
        "each scaled by itself."
    )


def shown_outlier(one: Outlier, row: ShownRow | None) -> dict[str, Any]:
    """One of the gallery as the page's template takes it."""
    values = dict(row.values) if row else {}
    ra, dec = values.pop("ra", None), values.pop("dec", None)
    identity = next((f"{name} {value}" for name, value in values.items() if value is not None), None)
    redshift = "" if one.z_spec is None else f": redshift {one.z_spec:.3f}, predicted {one.z_pred:.3f}"
    alt = f"Cut-out of sample {one.index}{redshift}"
    curve = None
    if row is not None and row.curve is not None:
        figure = curve_figure(*row.curve, one.z_pred, one.z_spec)
        curve = page_svg(figure, f"curve-{one.index}", f"p(z) of sample {one.index}")
    return {
        "head": f"Δz = {one.residual:+.3f}".replace("-", "−") if one.residual is not None else f"{one.distance:.1f} σ",
        "redshifts": None if one.z_spec is None else f"z {one.z_spec:.3f} → {one.z_pred:.3f}",
        "r_magnitude": one.r_magnitude,
        "index": one.index,
        "identity": identity,
        "picture": None if one.cutout is None else png_data_uri(one.cutout),
        "alt": alt,
        "curve": curve,
        "sky": _sky_link(ra, dec),
    }


def _sky_link(ra: Any, dec: Any) -> str | None:
    """A viewer of the sky there; None where the position is not kept, or is none."""
    if not isinstance(ra, (int, float)) or not isinstance(dec, (int, float)):
        return None
    if not math.isfinite(ra) or not math.isfinite(dec) or abs(dec) > 90:
        return None
    return _VIEWER + urlencode({"ra": f"{ra:.6f}", "dec": f"{dec:.6f}", "layer": "ls-dr10", "zoom": 16})
