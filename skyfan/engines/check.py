"""Every converted model is compared with torch before it predicts anything."""

from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError
from skyfan.models.loading import LoadedModel
from skyfan.models.reference_outputs import check_samples

# |z − z_torch| ≤ this · max(1, |z_torch|), the bound that all float32 engines share.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Deviation:
    """How far an engine's outputs are from torch's on the same samples, in units of the output."""

    samples: int
    max_abs: float
    p999_abs: float
    relative: float
    """Largest |z − z_torch| / max(1, |z_torch|)."""

    @classmethod
    def between(cls, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Self:
        """Of outputs [B, width] against those that they should be."""
        reference = expected.astype(np.float64).reshape(len(expected), -1)
        with np.errstate(invalid="ignore"):
            difference = np.abs(found.astype(np.float64) - reference)
        # what is not finite in the same way in both is no deviation: a logarithm of nothing, a row that holds NaN
        difference[(found == reference) | (np.isnan(found) & np.isnan(reference))] = 0
        if not np.isfinite(difference).all():
            return cls(len(found), np.inf, np.inf, np.inf)
        return cls(
            samples=len(found),
            max_abs=float(difference.max()),
            p999_abs=float(np.quantile(difference, 0.999)),
            relative=float((difference / np.maximum(1, np.abs(np.nan_to_num(reference)))).max()),
        )

    def to_dict(self) -> dict[str, float]:
        """For the rank record."""
        return asdict(self)


class DeviatesFromTorch(ModelError):
    """A float32 engine whose outputs are not torch's."""

    cure = "Run with --engine torch."


def require_equal(deviation: Deviation, engine: str) -> None:
    """Raises `DeviatesFromTorch` beyond `TOLERANCE`."""
    if deviation.relative > TOLERANCE:
        raise DeviatesFromTorch(
            f"the {engine} engine deviates from torch by {deviation.relative:.1e}, more than {TOLERANCE:.0e}, on this "
            "model and machine; use --engine torch"
        )


def reference_outputs(model: LoadedModel) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Samples, and what torch predicts on them [B, width]: from the model's file, or from torch itself."""
    outputs = model.reference_outputs
    if outputs is not None:
        return check_samples(model.inputs, len(outputs)), np.array(outputs, np.float32)
    import torch

    samples = check_samples(model.inputs)
    # torch only checks, and its threads would spin beside the engine's: measured, a check of 16 samples took
    # 1.0 CPU seconds on two threads and takes 0.1 on one.
    torch.set_num_threads(1)
    return samples, model.predict(*(torch.from_numpy(values) for values in samples)).cpu().numpy()
