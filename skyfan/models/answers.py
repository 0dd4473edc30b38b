"""What torch predicts on a few fixed samples, kept beside the weights.

An engine is checked against torch before it predicts. With these answers in a model's file, a process that runs
another engine can do so without importing torch: a second of every cold start.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skyfan.models.config import AstroMAEConfig
from skyfan.models.inputs import ModelInput, ModelInputs

if TYPE_CHECKING:
    from skyfan.models.astromae import AstroMAE

CHECKED_SAMPLES = 16


def check_samples(inputs: Sequence[ModelInput], count: int = CHECKED_SAMPLES) -> list[NDArray[np.float32]]:
    """Inputs to compare engines on: noise of the size of SDSS fluxes, magnitudes from 14 to 22; always the same."""
    rng = np.random.default_rng(0)
    found = []
    for wanted in inputs:
        noise = rng.random((count, *(size or 1 for size in wanted.shape[1:])), dtype=np.float32)
        values = 14 + 8 * noise if wanted.name == "magnitude" else np.expm1(4 * noise) / 10
        found.append(values.astype(np.float32))
    return found


def torch_answers(model: "AstroMAE", config: AstroMAEConfig) -> tuple[float, ...] | None:
    """What torch predicts on `check_samples`, one redshift a sample; None where that is not finite."""
    import torch

    samples = [torch.from_numpy(values) for values in check_samples(ModelInputs.of_astromae(config).tensors)]
    with torch.inference_mode():
        redshift = model(*samples)[:, 0]
    return tuple(redshift.tolist()) if bool(torch.isfinite(redshift).all()) else None
