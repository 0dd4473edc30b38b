"""Models of random weights whose every layer matters, for tests of engines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skyfan.models.astromae import AstroMAE
from skyfan.models.checkpoint import write_safetensors
from skyfan.models.config import AstroMAEConfig
from skyfan.models.loading import LoadedModel, load_model
from skyfan.models.sizes import SMALL

CONFIG = replace(SMALL, depth=2)


def lively_model(config: AstroMAEConfig = CONFIG) -> AstroMAE:
    """Random weights, batch norms that do something, and outputs of the order of 1."""
    torch.manual_seed(0)
    model = AstroMAE(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
            nn.init.normal_(module.weight, mean=1.0, std=0.2)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.concat_block[-1].weight.mul_(10)
    return model


def loaded_model(folder: Path, config: AstroMAEConfig = CONFIG) -> LoadedModel:
    """`lively_model` by way of a file without reference outputs."""
    path = folder / "lively.safetensors"
    path.write_bytes(write_safetensors(lively_model(config).state_dict(), config, {}))
    return load_model(str(path))


def inputs(count: int, seed: int = 0, config: AstroMAEConfig = CONFIG) -> list[np.ndarray]:
    """Images [B, C, H, W] and magnitudes [B, M]."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(count, config.channels, config.image_size, config.image_size)).astype(np.float32)
    return [image, (18 + rng.normal(size=(count, config.magnitudes))).astype(np.float32)]
