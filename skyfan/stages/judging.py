"""What a summary says of how good predictions are: metrics, their errors, metrics in bins, classes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.planning import Plan
from skyfan.records import ClassesSummary, ScienceBin
from skyfan.report.galaxies import R_BAND, Galaxies, Observed
from skyfan.science.classification import ClassTally
from skyfan.science.quality import errors_of, in_bins, ks_test, metrics_of, sigma68
from skyfan.stages.merging import Merged
from skyfan.stages.trained_galaxies import is_noticed, trained_rows

_G_BAND = R_BAND - 1


def judge(plan: Plan, merged: Merged, observed: Observed) -> dict[str, Any]:
    """The metrics of all labelled rows, as fields of a summary.

    σ68, the KS test and metrics in bins are those of the rows that are held (`RedshiftSample`), and so are the metrics
    of galaxies that the model was not trained on. Errors are bootstrapped on these rows, and are those of as many rows
    as the metric is of.
    """
    galaxies = merged.redshifts.galaxies
    if merged.science is None or galaxies is None:
        return {"science": None, "science_errors": {}, "science_bins": (), "pit_counts": None}
    total = merged.science.samples
    science = asdict(merged.science) | {"sigma68": sigma68(galaxies.residual)} | merged.scores.metrics()
    pit = galaxies.scores.get("pit")
    if pit is not None:
        science["pit_ks"], science["pit_ks_p"] = ks_test(pit)
    errors = errors_of(galaxies, total)
    if "sigma68" in errors:
        errors["sigma68"] *= math.sqrt(total / len(galaxies.index))
    unseen, unseen_errors = _of_unseen(plan, merged, galaxies, total)
    return {
        "science": _finite(science),
        "science_errors": _finite(errors),
        "science_bins": tuple(_bins(galaxies, observed)),
        "pit_counts": None if pit is None else tuple(merged.scores.pit_counts.tolist()),
        "science_unseen": unseen,
        "science_unseen_errors": unseen_errors,
    }


def _of_unseen(
    plan: Plan, merged: Merged, galaxies: Galaxies, total: int
) -> tuple[dict[str, float | None] | None, dict[str, float | None]]:
    """Metrics of the galaxies that the model was not trained on, and their errors; None where that is all or none."""
    count = total - merged.trained_samples
    if not count or not is_noticed(plan, merged.trained_samples):
        return None, {}
    unseen = galaxies.take(~trained_rows(plan, galaxies.z_spec, galaxies.scores))
    metrics = metrics_of(unseen) | {"samples": count}
    if "pit" in unseen.scores and len(unseen.index):
        metrics["pit_ks"], metrics["pit_ks_p"] = ks_test(unseen.scores["pit"])
    return _finite(metrics), _finite(errors_of(unseen))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """An undefined number is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _bins(galaxies: Galaxies, observed: Observed) -> Iterator[ScienceBin]:
    everywhere: dict[str, NDArray[np.float64]] = {"z_spec": galaxies.z_spec}
    if observed.rows is not None and observed.magnitudes is not None:
        everywhere["r magnitude"] = _spread(observed.magnitudes[:, R_BAND], observed.rows, len(galaxies.index))
        colour = observed.magnitudes[:, _G_BAND] - observed.magnitudes[:, R_BAND]
        everywhere["g - r"] = _spread(colour, observed.rows, len(galaxies.index))
    for by, values in everywhere.items():
        for one in in_bins(galaxies, values):
            yield ScienceBin(
                by=by, low=one.low, high=one.high, metrics=_finite(one.metrics), errors=_finite(one.errors)
            )


def _spread(values: NDArray[np.float64], rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Values of some of the rows as those of all, NaN elsewhere."""
    found = np.full(count, np.nan)
    found[rows] = values
    return found


def classes_summary(tally: ClassTally) -> ClassesSummary:
    """The counts as the summary holds them."""
    filled = tally.of_bins[tally.of_bins[:, 0] > 0]
    return ClassesSummary(
        names=tuple(tally.names),
        counts=tuple(tally.counts.tolist()),
        confidence=tuple(tally.confidence.tolist()),
        labelled=tally.labelled,
        accuracy=tally.accuracy,
        calibration_error=tally.calibration_error,
        confusion=tuple(map(tuple, tally.confusion.tolist())) if tally.labelled else None,
        calibration=tuple((int(count), sure / count, right / count) for count, sure, right in filled.tolist()),
    )
