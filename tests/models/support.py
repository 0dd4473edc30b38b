"""What several tests of models need."""

import io
from dataclasses import replace

import torch

from skyfan.models import AstroMAE, InceptionWidths
from skyfan.models.sizes import SMALL

TINY = replace(
    SMALL,
    embed_dim=8,
    depth=1,
    mlp_hidden=16,
    pcm_hidden=16,
    pcm_groups=4,
    vit_hidden=8,
    vit_out=8,
    vis_hidden=8,
    vis_out=8,
    magnitude_widths=(16, 16),
    stem_channels=4,
    inception=(InceptionWidths(2, 2, 2, 2, 2, 2),) * 5,
    head_hidden=16,
    num_heads=2,
)


def tiny_model(seed: int = 0) -> AstroMAE:
    """A model of the smallest sizes with random weights."""
    torch.manual_seed(seed)
    return AstroMAE(TINY).eval()


def saved(thing: object) -> bytes:
    """What `torch.save` writes for it."""
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def inputs(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and magnitudes."""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, 5, 32, 32, generator=rng), 18 + torch.randn(count, 5, generator=rng)
