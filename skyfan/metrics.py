"""Science metrics of photometric redshifts.

Definitions (Δz, bias, NMAD, MAE, MSE, R²) are those of AstroMAE (arXiv 2409.01825) and of the reference
system (arXiv 2501.06249): Δz = (z_pred − z_spec) / (1 + z_spec); NMAD = 1.48 · median(|Δz − median Δz|).
The outlier fractions use the customary cuts |Δz| > 0.15 (Ilbert et al. 2006, A&A 457, 841, who scale the
MAD with 1.48 as well) and |Δz| > 0.05 (used for low-redshift samples such as the SDSS main galaxies,
Pasquet et al. 2019, A&A 621, A26).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Normalised residual (z_pred − z_spec) / (1 + z_spec), shape [N]."""
    spec = np.asarray(z_spec, dtype=np.float64)
    return (np.asarray(z_pred, dtype=np.float64) - spec) / (1.0 + spec)


def science_metrics(z_pred: NDArray[np.floating], z_spec: NDArray[np.floating]) -> ScienceMetrics | None:
    """Metrics of shape-[N] arrays; pairs where either is not finite are left out; None if none is left.

    R² is NaN when fewer than two distinct spectroscopic redshifts are there.
    """
    pred = np.asarray(z_pred, dtype=np.float64)
    spec = np.asarray(z_spec, dtype=np.float64)
    known = np.isfinite(pred) & np.isfinite(spec)
    pred, spec = pred[known], spec[known]
    if pred.size == 0:
        return None
    dz = delta_z(pred, spec)
    error = pred - spec
    variance = float(np.sum((spec - spec.mean()) ** 2))
    return ScienceMetrics(
        samples=int(pred.size),
        bias=float(dz.mean()),
        nmad=float(NMAD_SCALE * np.median(np.abs(dz - np.median(dz)))),
        mae=float(np.abs(error).mean()),
        mse=float((error**2).mean()),
        r2=1.0 - float((error**2).sum()) / variance if variance > 0 else float("nan"),
        outlier_fraction_005=float((np.abs(dz) > 0.05).mean()),
        outlier_fraction_015=float((np.abs(dz) > 0.15).mean()),
    )


SCIENCE_LABELS = (
    ("samples", "galaxies with a known redshift", "{:,.0f}"),
    ("bias", "bias, mean Δz", "{:+.5f}"),
    ("nmad", "NMAD, 1.48 · median |Δz − median Δz|", "{:.5f}"),
    ("mae", "MAE of z", "{:.5f}"),
    ("mse", "MSE of z", "{:.6f}"),
    ("r2", "R²", "{:.4f}"),
    ("outlier_fraction_005", "|Δz| > 0.05", "{:.2%}"),
    ("outlier_fraction_015", "|Δz| > 0.15", "{:.2%}"),
)


def science_rows(science: dict[str, float | None] | None) -> list[tuple[str, str]]:
    """Label and value of each science metric, for pages and terminals."""
    if science is None:
        return []
    return [
        (label, form.format(value) if (value := science.get(key)) is not None else "not defined")
        for key, label, form in SCIENCE_LABELS
    ]
