"""Sizes of AstroMAE that `skyfan model train` offers by name."""

from typing import Literal

from skyfan.models.config import AstroMAEConfig, InceptionWidths

Size = Literal["small", "reference"]

SMALL = AstroMAEConfig(
    embed_dim=48,
    depth=3,
    mlp_hidden=192,
    pcm_hidden=96,
    pcm_groups=12,
    vit_hidden=64,
    vit_out=64,
    stem_channels=16,
    inception=tuple(InceptionWidths(w, w, w, w, w, w) for w in (8, 8, 8, 8, 4)),
    vis_hidden=64,
    vis_out=64,
    magnitude_widths=(128, 128, 128, 128, 128),
    head_hidden=128,
    num_heads=4,
)
SIZES: dict[Size, AstroMAEConfig] = {"small": SMALL, "reference": AstroMAEConfig()}
