"""Numbers that catalogues write where nothing was measured.

Magnitudes: 99 is "not detected", −99 is "not observed" (BPZ: Benítez 2000, ApJ 536, 571; SExtractor: Bertin & Arnouts
1996, A&AS 117, 393). No galaxy has an apparent magnitude of 99 or more, or of −99 or less. Redshifts: −1, −9 and −99
are customary for "unknown". As 1 + z is a ratio of wavelengths, z ≤ −1 is never a redshift.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAGNITUDE: Final = "magnitude"
REDSHIFT: Final = "redshift"
SENTINELS: Final = {MAGNITUDE: "|m| ≥ 99", REDSHIFT: "z ≤ −1"}
"""The tensors whose sentinels are known, and which of their values are sentinels."""


def sentinels(name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which `values` of the tensor called `name` are sentinels, in their shape; none for a tensor without sentinels.

    NaN and infinities are no sentinels.
    """
    if name == MAGNITUDE:
        found: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values) >= 99)
        return found
    if name == REDSHIFT:
        unknown: NDArray[np.bool_] = np.isfinite(values) & (values <= -1)
        return unknown
    return np.zeros(values.shape, dtype=np.bool_)


def known_redshifts(z_spec: NDArray[np.floating]) -> NDArray[np.float64]:
    """The spectroscopic redshifts as float64, with NaN where they are unknown: not finite, or z ≤ −1."""
    spec = np.asarray(z_spec, dtype=np.float64)
    return np.where(np.isfinite(spec) & (spec > -1), spec, np.nan)
