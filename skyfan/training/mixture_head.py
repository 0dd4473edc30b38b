"""A model's head with as many components of p(z) as a training asks for."""

import copy
import math
from dataclasses import replace

import torch
from torch import nn

from skyfan.models.astromae import AstroMAE

# Where new components begin, in standard deviations of the redshift: around the point estimate, and as wide as that.
_SPREAD, _SIGMA = 0.3, 0.3


def with_head(model: AstroMAE, components: int) -> AstroMAE:
    """The model, which takes standardised inputs, with a head of `components` components; its redshift stays as it is.

    A head of other components is made anew: its means begin around the redshift, its sigmas and weights alike.
    """
    if model.config.mixture == components:
        return model
    changed = copy.deepcopy(model)
    changed.config = replace(model.config, mixture=components)
    last = model.concat_block[-1]
    assert isinstance(last, nn.Linear)
    wider = nn.Linear(last.in_features, changed.config.head_width)
    with torch.no_grad():
        nn.init.zeros_(wider.weight)
        nn.init.zeros_(wider.bias)
        wider.weight[: 1 + components] = last.weight[0]
        wider.bias[: 1 + components] = last.bias[0]
        if components:
            wider.bias[1 : 1 + components] += torch.linspace(-_SPREAD, _SPREAD, components)
            wider.bias[1 + components : 1 + 2 * components] = math.log(_SIGMA)
    changed.concat_block[-1] = wider
    return changed
