"""Science metrics of photometric redshifts.

Definitions (Δz, bias, NMAD, MAE, MSE, R²) are those of AstroMAE (arXiv 2409.01825) and of the reference
system (arXiv 2501.06249): Δz = (z_pred − z_spec) / (1 + z_spec); NMAD = 1.48 · median(|Δz − median Δz|).
The outlier fractions use the customary cuts |Δz| > 0.15 (Ilbert et al. 2006, A&A 457, 841, who scale the
MAD with 1.48 as well) and |Δz| > 0.05 (used for low-redshift samples such as the SDSS main galaxies,
Pasquet et al. 2019, A&A 621, A26).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skyfan.science.sentinels import known_redshifts

NMAD_SCALE = 1.48


@dataclass(frozen=True)
class ScienceMetrics:
    """Metrics over the samples whose spectroscopic redshift is known. All are dimensionless."""

    samples: int
    bias: float
    nmad: float
    mae: float
    mse: float
    r2: float
    outlier_fraction_005: float
    outlier_fraction_015: float


def delta_z(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> NDArray[np.float64]:
    """Normalised residual (z_pred − z_spec) / (1 + z_spec) of arrays [N], as [N]; NaN where z_spec is unknown."""
    spec = known_redshifts(z_spec)
    return (np.asarray(z_pred, dtype=np.float64) - spec) / (1.0 + spec)


def science_metrics(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> ScienceMetrics | None:
    """Metrics of predicted and spectroscopic redshifts [N].

    Pairs are left out where the prediction is not finite or the spectroscopic redshift is unknown
    (`skyfan.science.sentinels`); None if no pair is left. R² is NaN with fewer than two distinct z_spec.
    """
    of_sums = metrics_of_sums(science_sums(z_pred, z_spec))
    if of_sums is None:
        return None
    residual = known_residuals(z_pred, z_spec)
    return replace(of_sums, nmad=float(NMAD_SCALE * np.median(np.abs(residual - np.median(residual)))))


def known_residuals(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> NDArray[np.float64]:
    """Δz of the pairs [N] that metrics are of, as [M]: both known, see `science_metrics`."""
    return delta_z(*_known_pairs(z_pred, z_spec))


def _known_pairs(
    z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pred, spec = np.asarray(z_pred, dtype=np.float64), known_redshifts(z_spec)
    known = np.isfinite(pred) & np.isfinite(spec)
    return pred[known], spec[known]


# Entries of what `science_sums` returns.
_COUNT, _DZ, _ABS_ERROR, _SQUARE_ERROR, _OUTLIERS_005, _OUTLIERS_015, _MEAN_Z, _SPREAD_Z = range(8)


def science_sums(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums [8] from which every metric but NMAD follows; `merge_sums` adds the sums of two parts of the samples.

    They hold mean and squared deviation of z_spec instead of its plain sums, whose difference would lose digits.
    """
    pred, spec = _known_pairs(z_pred, z_spec)
    sums = np.zeros(8)
    if pred.size:
        dz, error = delta_z(pred, spec), pred - spec
        sums[_COUNT], sums[_DZ] = pred.size, dz.sum()
        sums[_ABS_ERROR], sums[_SQUARE_ERROR] = np.abs(error).sum(), (error**2).sum()
        sums[_OUTLIERS_005], sums[_OUTLIERS_015] = (np.abs(dz) > 0.05).sum(), (np.abs(dz) > 0.15).sum()
        sums[_MEAN_Z] = spec.mean()
        sums[_SPREAD_Z] = ((spec - sums[_MEAN_Z]) ** 2).sum()
    return sums


def merge_sums(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of two parts of the samples together.

    The squared deviation is merged as by Chan, Golub & LeVeque 1979 (Stanford report STAN-CS-79-773).
    """
    merged = one + other
    if one[_COUNT] and other[_COUNT]:
        apart, weight = other[_MEAN_Z] - one[_MEAN_Z], other[_COUNT] / merged[_COUNT]
        merged[_MEAN_Z] = one[_MEAN_Z] + apart * weight
        merged[_SPREAD_Z] += apart**2 * one[_COUNT] * weight
    return merged


def metrics_of_sums(sums: NDArray[np.float64]) -> ScienceMetrics | None:
    """The metrics of the sums; None without samples. NMAD is NaN, because sums do not give a median."""
    count = sums[_COUNT]
    if not count:
        return None
    return ScienceMetrics(
        samples=int(count),
        bias=float(sums[_DZ] / count),
        nmad=float("nan"),
        mae=float(sums[_ABS_ERROR] / count),
        mse=float(sums[_SQUARE_ERROR] / count),
        r2=float(1.0 - sums[_SQUARE_ERROR] / sums[_SPREAD_Z]) if sums[_SPREAD_Z] > 0 else float("nan"),
        outlier_fraction_005=float(sums[_OUTLIERS_005] / count),
        outlier_fraction_015=float(sums[_OUTLIERS_015] / count),
    )


def as_json(metrics: ScienceMetrics | None) -> dict[str, float | None] | None:
    """The metrics as records and summaries hold them; an undefined metric is null."""
    if metrics is None:
        return None
    return {name: value if np.isfinite(value) else None for name, value in asdict(metrics).items()}


SCIENCE_LABELS = (
    ("samples", "galaxies with a known redshift", "{:,.0f}"),
    ("bias", "bias, mean Δz", "{:+.5f}"),
    ("nmad", "NMAD, 1.48 · median |Δz − median Δz|", "{:.5f}"),
    ("mae", "MAE of z", "{:.5f}"),
    ("mse", "MSE of z", "{:.6f}"),
    ("r2", "R²", "{:.4f}"),
    ("outlier_fraction_005", "|Δz| > 0.05", "{:.2%}"),
    ("outlier_fraction_015", "catastrophic outliers, |Δz| > 0.15", "{:.2%}"),
    ("sigma68", "σ68, half of the 16th to 84th percentile of Δz", "{:.5f}"),
    ("coverage", "z_spec in z_low to z_high (68% is meant)", "{:.1%}"),
    ("crps", "CRPS", "{:.5f}"),
    ("cde_loss", "CDE loss", "{:.3f}"),
    ("pit_ks", "KS distance of PIT from uniform", "{:.4f}"),
    ("pit_ks_p", "  its probability if PIT is uniform", "{:.3g}"),
)


def science_rows(
    science: Mapping[str, float | None] | None, errors: Mapping[str, float | None] | None = None
) -> list[tuple[str, str]]:
    """Label and value ± error of each science metric that there is, for pages and terminals."""
    return [
        (label, with_error(form, science[key], (errors or {}).get(key)))
        for key, label, form in SCIENCE_LABELS
        if science is not None and key in science
    ]


def with_error(form: str, value: float | None, error: float | None) -> str:
    """`0.01428 ± 0.00072`, both in the value's form; no error where it is not known, or no replicate differs."""
    if value is None:
        return "not defined"
    return form.format(value) if not error else f"{form.format(value)} ± {form.replace('+', '').format(error)}"
