"""Standardised inputs and outputs for training, and folding them into the weights afterwards.

A network trains best on inputs of unit scale. The published architecture has no layer for that. So a model is
trained on standardised values, and then every affine map is folded into the linear layer that follows or precedes
it: the image's into `patch_embed.proj` and the first convolution of the local branch, the whitening
of the magnitudes (which gives the colours their weight) into the first layer of their perceptron, and the
redshift's scale into the last layer. The saved model is a plain AstroMAE that takes raw values.
"""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skyfan.errors import DatasetError
from skyfan.models.astromae import AstroMAE
from skyfan.training.samples import Samples

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class Standardisation:
    """x ↦ (x − mean) / scale per band, m ↦ (m − mean) · whitening, z = mean + scale · output."""

    image_mean: Matrix
    image_scale: Matrix
    magnitude_mean: Matrix
    whitening: Matrix
    redshift_mean: float
    redshift_scale: float

    def image(self, image: Tensor) -> Tensor:
        """Images [B, C, H, W] of the dataset → about unit scale."""
        mean, scale = (_like(image, part)[:, None, None] for part in (self.image_mean, self.image_scale))
        return (image - mean) / scale

    def magnitude(self, magnitude: Tensor) -> Tensor:
        """Magnitudes [B, M] of the dataset → uncorrelated, with unit variance."""
        return (magnitude - _like(magnitude, self.magnitude_mean)) @ _like(magnitude, self.whitening)

    def redshift(self, output: Tensor) -> Tensor:
        """The output of a model that was trained on standardised inputs → redshift."""
        return output * self.redshift_scale + self.redshift_mean

    def of_redshift_alone(self) -> "Standardisation":
        """The same for models whose inputs are raw."""
        channels, magnitudes = len(self.image_mean), len(self.magnitude_mean)
        return replace(
            self,
            image_mean=np.zeros(channels),
            image_scale=np.ones(channels),
            magnitude_mean=np.zeros(magnitudes),
            whitening=np.eye(magnitudes),
        )


def _like(tensor: Tensor, values: Matrix) -> Tensor:
    return torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)


def fit_standardisation(samples: Samples) -> Standardisation:
    """The standardisation of these samples.

    Raises:
        DatasetError: an input does not vary.
    """
    image = samples.image.astype(np.float64)
    magnitude = samples.magnitude.astype(np.float64)
    mean = magnitude.mean(axis=0)
    covariance = np.atleast_2d(np.cov(magnitude - mean, rowvar=False))
    variances, axes = np.linalg.eigh(covariance)
    image_scale = image.std(axis=(0, 2, 3))
    redshift_scale = float(samples.redshift.std())
    if len(samples) < 2 or redshift_scale == 0 or not image_scale.all() or variances.min() <= 1e-9 * variances.max():
        raise DatasetError(
            "the training samples do not vary (one redshift, an empty band, or one magnitude that is a copy of "
            "another); a model cannot be trained on them."
        )
    return Standardisation(
        image_mean=image.mean(axis=(0, 2, 3)),
        image_scale=image_scale,
        magnitude_mean=mean,
        whitening=axes / np.sqrt(variances),
        redshift_mean=float(samples.redshift.mean(dtype=np.float64)),
        redshift_scale=redshift_scale,
    )


def fold(model: AstroMAE, standardisation: Standardisation) -> AstroMAE:
    """A copy of `model` that takes raw inputs and gives redshifts."""
    s = standardisation
    image = np.diag(1.0 / s.image_scale), s.image_mean
    return _converted(model, image, (s.whitening.T, s.magnitude_mean), s.redshift_scale, s.redshift_mean)


def unfold(model: AstroMAE, standardisation: Standardisation) -> AstroMAE:
    """A copy of `model`, which takes raw inputs, that takes standardised ones: the inverse of `fold`."""
    s = standardisation
    back = np.linalg.inv(s.whitening.T)
    image = np.diag(s.image_scale), -s.image_mean / s.image_scale
    magnitude = back, -s.whitening.T @ s.magnitude_mean
    return _converted(model, image, magnitude, 1.0 / s.redshift_scale, -s.redshift_mean / s.redshift_scale)


def _converted(
    model: AstroMAE, image: tuple[Matrix, Matrix], magnitude: tuple[Matrix, Matrix], scale: float, offset: float
) -> AstroMAE:
    """A copy that takes x where `model` takes matrix · (x − mean), and gives scale · redshift + offset."""
    changed = copy.deepcopy(model)
    components = model.config.mixture
    with torch.no_grad():
        for conv in (changed.patch_embed.proj, changed.inception_model.conv2d_init):
            _fold_input(conv, *image)
        first, last = changed.inception_model.magnitude_block[0], changed.concat_block[-1]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        _fold_input(first, *magnitude)
        redshifts = slice(0, 1 + components)  # the point and the means; the sigmas are logarithms
        last.weight[redshifts] = (last.weight[redshifts].double() * scale).float()
        last.bias[redshifts] = (last.bias[redshifts].double() * scale + offset).float()
        last.bias[1 + components : 1 + 2 * components] += math.log(scale)
    return changed


def _fold_input(layer: nn.Linear | nn.Conv2d, matrix: Matrix, mean: Matrix) -> None:
    """Changes a layer that takes matrix · (x − mean) so that it takes x, in float64; valid without padding."""
    assert layer.bias is not None
    weight = layer.weight.double()
    folded = torch.einsum("oi...,ij->oj...", weight, torch.as_tensor(matrix))
    per_channel = folded.flatten(2).sum(dim=2) if folded.dim() > 2 else folded
    layer.bias.copy_(layer.bias.double() - per_channel @ torch.as_tensor(mean))
    layer.weight.copy_(folded)
