"""Losses of what the head's last layer gives, in the units of the standardised redshift."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from skyfan.training.standardise import Standardisation
from skyfan.training.training_settings import TrainingSettings


def training_loss(
    raw: Tensor, redshift: Tensor, standardisation: Standardisation, settings: TrainingSettings
) -> Tensor:
    """The loss of raw outputs [B, 1 + 3·K] for true redshifts [B]: of the point, and where K > 0 of p(z) added to it.

    Of the point it is the Huber loss of Δz = (z_pred − z) / (1 + z), in units of `huber_delta`. Where the last layer
    alone is trained for p(z), the loss is that of p(z).
    """
    raw = raw.float()
    error = (standardisation.redshift(raw[:, 0]) - redshift) / (1 + redshift)
    delta = settings.huber_delta
    point = F.huber_loss(error, torch.zeros_like(error), delta=delta) / delta
    if not settings.mixture:
        return point
    wanted = (redshift - standardisation.redshift_mean) / standardisation.redshift_scale
    of_mixture = mixture_loss(raw[:, 1:], wanted)
    return of_mixture if settings.head_only else point + of_mixture


def mixture_loss(raw: Tensor, wanted: Tensor) -> Tensor:
    """Mean negative log-likelihood of `wanted` [B] under the mixtures [B, 3·K]: means, log sigmas, logits.

    Bishop 1994 (Mixture density networks, NCRG/94/004), eq. 23 to 29.
    """
    mean, log_sigma, logits = raw.chunk(3, dim=1)
    distance = (wanted[:, None] - mean) * torch.exp(-log_sigma)
    log_density = -0.5 * distance.square() - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_density + F.log_softmax(logits, dim=1), dim=1).mean()
