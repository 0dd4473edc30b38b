"""What torch predicts on a few fixed samples, kept beside the weights and bound to them.

An engine is checked against torch before it predicts. With these reference outputs in a model's file, a process that
runs another engine can do so without importing torch: a second of every cold start. A digest over the weights and the
outputs is kept with them, so that outputs of other weights are refused and not taken for a failing engine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skyfan.models.inputs import ModelInput, ModelInputs

if TYPE_CHECKING:
    from skyfan.models.astromae import AstroMAE

CHECKED_SAMPLES = 16
Outputs = tuple[tuple[float, ...], ...]
"""Rows of the head's values, one a sample."""


def check_samples(inputs: Sequence[ModelInput], count: int = CHECKED_SAMPLES) -> list[NDArray[Any]]:
    """Inputs to compare engines on, always the same; sizes that may be any are 1.

    Noise of the size of SDSS fluxes, magnitudes from 14 to 22, small whole numbers where the model takes whole numbers.
    """
    rng = np.random.default_rng(0)
    found = []
    for wanted in inputs:
        noise = rng.random((count, *(size or 1 for size in wanted.shape[1:])), dtype=np.float32)
        if "float" in wanted.dtype:
            values = 14 + 8 * noise if wanted.name == "magnitude" else np.expm1(4 * noise) / 10
        else:
            values = 2 * noise
        found.append(values.astype(wanted.numpy_dtype))
    return found


def reference_outputs(model: "AstroMAE") -> Outputs | None:
    """What torch predicts on `check_samples`, a row of the head's values a sample; None where one is not finite."""
    import torch

    samples = [torch.from_numpy(values) for values in check_samples(ModelInputs.of_astromae(model.config).tensors)]
    with torch.inference_mode():
        outputs = model(*samples)
    return tuple(map(tuple, outputs.tolist())) if bool(torch.isfinite(outputs).all()) else None


def binding_digest(weights: Mapping[str, NDArray[Any]], outputs: Outputs) -> str:
    """SHA-256 over the weights, by name with dtype and shape, and the outputs: of these two together, of no others."""
    digest = hashlib.sha256(b"skyfan reference outputs 1\n")
    for name, values in sorted(weights.items()):
        digest.update(f"{name} {values.dtype.str} {list(values.shape)}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    digest.update(np.array(outputs, "<f8").tobytes())
    return digest.hexdigest()
