"""Small colour pictures of galaxies, embedded in the page.

Colour composite and asinh stretch after Lupton et al. 2004 (PASP 116, 133): the intensity is stretched, the ratios of
the bands are kept. Each cut-out is scaled by its own sky noise and peak, whatever its units.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray

from skyfan.report.drawing import imsave

# Which bands of u g r i z are red, green and blue, and their weights: AB fluxes of galaxies rise towards the red.
_GRI, _GRI_WEIGHTS = (3, 2, 1), (1.0, 1.5, 2.5)
_SOFTENING_NOISE = 4.0
_WHITE_PERCENTILE = 99.5


def png_data_uri(cutout: NDArray[np.floating]) -> str:
    """The cut-out [bands, height, width] as a PNG picture within a `data:` URI."""
    buffer = io.BytesIO()
    imsave(buffer, colour(cutout), format="png", metadata={"Software": "Skyfan"})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def colour(cutout: NDArray[np.floating]) -> NDArray[np.uint8]:
    """uint8 composite [height, width, 3] of the bands g, r and i; grey unless `cutout` has the five bands u g r i z."""
    rgb = np.nan_to_num(_bands(cutout), nan=0.0, posinf=0.0, neginf=0.0)
    border = np.concatenate([rgb[:, 0], rgb[:, -1], rgb[:, :, 0], rgb[:, :, -1]], axis=1)
    rgb = rgb - np.median(border, axis=1)[:, None, None]
    intensity = rgb.mean(axis=0)
    noise = 1.48 * float(np.median(np.abs(border.mean(axis=0) - np.median(border.mean(axis=0)))))
    white = max(float(np.percentile(intensity, _WHITE_PERCENTILE)), 3 * noise)
    if white <= 0:
        return np.zeros((*intensity.shape, 3), dtype=np.uint8)
    softening = max(_SOFTENING_NOISE * noise, white / 50)
    stretched = np.arcsinh(intensity / softening) / np.arcsinh(white / softening)
    gain = np.divide(stretched, intensity, out=np.zeros_like(intensity), where=intensity != 0)
    picture = np.clip(rgb * gain, 0, None)
    # A pixel too bright in one band is dimmed in all, so that it keeps its colour.
    picture /= np.maximum(picture.max(axis=0), 1.0)
    return np.asarray(np.round(255 * picture.transpose(1, 2, 0)), dtype=np.uint8)


def _bands(cutout: NDArray[np.floating]) -> NDArray[np.float64]:
    if len(cutout) == 5:
        weights = np.array(_GRI_WEIGHTS)[:, None, None]
        return np.asarray(cutout[list(_GRI)] * weights, dtype=np.float64)
    grey = np.asarray(cutout, dtype=np.float64).mean(axis=0)
    return np.stack([grey, grey, grey])
