"""What a row of results says beside the model's own numbers: redshifts and intervals of p(z), classes of scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.job import PointEstimate
from skyfan.pz_form import MIXTURE_OUTPUTS, PzForm
from skyfan.science.metrics import delta_z
from skyfan.science.pz import HIGH_LEVEL, LOW_LEVEL, Distributions, distributions, normalised
from skyfan.science.sentinels import known_redshifts

Column = NDArray[np.floating]

POINT_COLUMNS = ("z_pred", "z_spec", "delta_z")
INTERVAL_COLUMNS = ("z_low", "z_high")
PZ_COLUMNS = ("pz_median", "pz_mean", "pz_mode", "odds")
SCORE_COLUMNS = ("pit", "crps", "cde_loss")
REDSHIFT_COLUMNS = (*POINT_COLUMNS, *INTERVAL_COLUMNS, *PZ_COLUMNS, *SCORE_COLUMNS)
CLASS_COLUMNS = ("class", "confidence", "true_class")
NO_DISTRIBUTION = "the model's p(z) is no distribution"


@dataclass(frozen=True)
class PzColumns:
    """p(z) in the engine's output: one range of columns for each part, and which estimate is z_pred.

    `own` is the column of the redshift that the model gives beside its p(z), if it does. `names` are those of the
    parts' columns in the results.
    """

    form: PzForm
    parts: tuple[slice, ...]
    point: PointEstimate
    own: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """One a part."""
        return MIXTURE_OUTPUTS if self.form.kind == "mixture" else ("pz",)


@dataclass(frozen=True)
class Redshifts:
    """Redshifts of N rows by column; `valid` tells which have any, and `parts` hold p(z), [N, W] float32 each."""

    valid: NDArray[np.bool_]
    columns: dict[str, Column]
    parts: tuple[NDArray[np.float32], ...] = ()


def redshifts(
    outputs: NDArray[np.float32],
    found_in: int | PzColumns,
    z_spec: NDArray[np.float32] | None,
    half_width: float | None = None,
) -> Redshifts:
    """The redshifts in outputs [N, width]: a column, or p(z).

    `half_width` is that of calibrated intervals, in units of 1 + z_pred (`skyfan.science.conformal`).
    """
    pz: Distributions | None = None
    parts: tuple[NDArray[np.float32], ...] = ()
    if isinstance(found_in, int):
        valid = np.isfinite(outputs[:, found_in])
        columns: dict[str, Column] = {"z_pred": outputs[:, found_in]}
        low = high = columns["z_pred"]
    else:
        arrays, valid = normalised(found_in.form, tuple(outputs[:, part] for part in found_in.parts))
        # Computed of what is stored, so that anyone finds the same from the file.
        parts = tuple(array.astype(np.float32) for array in arrays)
        pz = distributions(found_in.form, parts)
        median, low, high = (pz.quantile(level) for level in (0.5, LOW_LEVEL, HIGH_LEVEL))
        columns = {"pz_median": median, "pz_mean": pz.mean(), "pz_mode": pz.mode()}
        if found_in.point == "auto" and found_in.own is not None:
            columns["z_pred"] = outputs[:, found_in.own]
            valid &= np.isfinite(columns["z_pred"])
        else:
            columns["z_pred"] = columns["pz_median" if found_in.point == "auto" else f"pz_{found_in.point}"]
        columns["odds"] = pz.odds(columns["z_pred"].astype(np.float64))
    if half_width is not None or pz is not None:
        reach = (half_width or 0.0) * (1 + columns["z_pred"].astype(np.float64))
        middle = (low + high) / 2  # where calibration takes more from an interval than it has
        columns |= {"z_low": np.minimum(low - reach, middle), "z_high": np.maximum(high + reach, middle)}
    if z_spec is not None:
        columns |= _against(known_redshifts(z_spec), columns["z_pred"], pz)
    ordered = {name: columns[name].astype(np.float32) for name in REDSHIFT_COLUMNS if name in columns}
    return Redshifts(valid, ordered, parts)


def _against(z_spec: NDArray[np.float64], z_pred: Column, pz: Distributions | None) -> dict[str, Column]:
    found: dict[str, Column] = {"z_spec": z_spec, "delta_z": delta_z(z_pred, z_spec)}
    if pz is not None:
        known = np.isfinite(z_spec)
        at = np.where(known, z_spec, 0.0)
        scores = {"pit": pz.cdf(at), "crps": pz.crps(at), "cde_loss": pz.cde_loss(at)}
        found |= {name: np.where(known, values, np.nan) for name, values in scores.items()}
    return found


@dataclass(frozen=True)
class ClassColumns:
    """Scores of classes in the engine's output, and the dataset's column that has the true ones, if any."""

    names: tuple[str, ...]
    columns: slice
    labels: str | None = None


@dataclass(frozen=True)
class Classes:
    """The likeliest class of N rows by number, its probability, the true class (−1: unknown), and all probabilities."""

    likeliest: NDArray[np.int64]
    confidence: NDArray[np.float32]
    true: NDArray[np.int64] | None
    probabilities: NDArray[np.float32]


def classes(scores: NDArray[np.float32], wanted: ClassColumns, labels: NDArray[Any] | None) -> Classes:
    """The classes of scores [N, C]: rows that are probabilities are taken as such, of any others the softmax."""
    values = scores.astype(np.float64)
    total = values.sum(axis=1, keepdims=True)
    are_probabilities = ((values >= 0).all(axis=1) & (np.abs(total[:, 0] - 1) < 1e-3))[:, None]
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    softmax = raised / raised.sum(axis=1, keepdims=True)
    probabilities = np.where(are_probabilities, values / np.where(are_probabilities, total, 1), softmax)
    likeliest = probabilities.argmax(axis=1)
    return Classes(
        likeliest,
        probabilities.max(axis=1).astype(np.float32),
        None if labels is None else _numbers(labels, wanted.names),
        probabilities.astype(np.float32),
    )


def _numbers(labels: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.int64]:
    """Numbers of classes, or names, as numbers; −1 for what is neither, and where there is none."""
    if isinstance(labels, np.ma.MaskedArray):
        absent = np.ma.getmaskarray(labels).reshape(len(labels), -1)[:, 0]
        return np.where(absent, -1, _numbers(labels.data, names))
    flat = labels.reshape(len(labels), -1)[:, 0]
    if flat.dtype.kind in "iufb":
        values = flat.astype(np.float64)
        whole = np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < len(names))
        return np.where(whole, np.where(whole, values, 0), -1).astype(np.int64)
    known = {name: number for number, name in enumerate(names)}
    texts = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in flat.tolist())
    return np.array([known.get(text, -1) for text in texts], np.int64)
