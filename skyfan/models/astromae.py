"""AstroMAE: photometric redshift from an image and its magnitudes.

A vision transformer with parallel convolutions (ViTAE's "normal cell"), a local branch of inception
blocks and a multilayer perceptron on the magnitudes, joined by a small head (arXiv 2409.01825).
Names of parameters and buffers are those of the published checkpoints, so that their state dicts load as
they are.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skyfan.models.config import AstroMAEConfig, InceptionWidths


class PatchEmbed(nn.Module):
    """Cuts the image into patches and projects each: [B, C, H, W] → [B, patches, D]."""

    def __init__(self, config: AstroMAEConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(config.channels, config.embed_dim, kernel_size=size, stride=size)

    def forward(self, image: Tensor) -> Tensor:
        """Patches in row order."""
        tokens: Tensor = self.proj(image)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention whose keys have no bias: [B, T, D] → [B, T, D]."""

    def __init__(self, config: AstroMAEConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width)) if config.qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(width)) if config.qkv_bias else None
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scaled dot-product attention with scale 1/√(D / heads)."""
        batch, count, width = tokens.shape
        bias = None
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(tokens, self.qkv.weight, bias).view(batch, count, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(batch, count, width))
        return projected


class Mlp(nn.Module):
    """Two linear layers with a GELU between: [B, T, D] → [B, T, D]."""

    def __init__(self, config: AstroMAEConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.mlp_hidden, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Every token on its own."""
        out: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return out


class NormalCell(nn.Module):
    """A transformer block with a convolution of its input's patch grid beside the attention."""

    def __init__(self, config: AstroMAEConfig) -> None:
        super().__init__()
        width, hidden, groups = config.embed_dim, config.pcm_hidden, config.pcm_groups
        self.grid = config.grid_size
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = Mlp(config)
        self.PCM = nn.Sequential(
            nn.Conv2d(width, hidden, kernel_size=3, padding=1, groups=groups),
            nn.BatchNorm2d(hidden, eps=config.batch_norm_eps),
            nn.SiLU(),
            nn.Conv2d(hidden, width, kernel_size=3, padding=1, groups=groups),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, 1 + patches, D] → the same; the class token takes no part in the convolution."""
        batch, _, width = tokens.shape
        grid = tokens[:, 1:].transpose(1, 2).reshape(batch, width, self.grid, self.grid)
        local = self.PCM(grid).flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens)) + F.pad(local, (0, 0, 1, 0))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class ConvBlock(nn.Module):
    """Convolution of odd kernel size, batch norm, ReLU; the image keeps its size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2)
        self.bn = nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] → [B, C_out, H, W]."""
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four parallel branches (1×1, 3×3, 5×5, pooled), joined along the channels."""

    def __init__(self, in_channels: int, widths: InceptionWidths, eps: float, *, use_5x5: bool) -> None:
        super().__init__()
        self.use_5x5 = use_5x5
        self.branch1 = ConvBlock(in_channels, widths.branch1, 1, eps)
        self.branch2 = nn.Sequential(
            ConvBlock(in_channels, widths.reduce3, 1, eps),
            ConvBlock(widths.reduce3, widths.branch3x3, 3, eps),
        )
        # The last block owns a 5×5 branch that it never calls: it exists so that published weights fit.
        self.branch3 = nn.Sequential(
            ConvBlock(in_channels, widths.reduce5, 1, eps),
            ConvBlock(widths.reduce5, widths.branch5x5, 5, eps),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, padding=1, stride=1), ConvBlock(in_channels, widths.pool, 1, eps)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] → [B, sum of the branches' widths, H, W]."""
        branches = [self.branch1(x), self.branch2(x)]
        if self.use_5x5:
            branches.append(self.branch3(x))
        branches.append(self.branch4(x))
        return torch.cat(branches, dim=1)


class LocalBranches(nn.Module):
    """The inception branch on the image and the perceptron on the magnitudes."""

    def __init__(self, config: AstroMAEConfig) -> None:
        super().__init__()
        # Registered twice, as in the published checkpoints: here and as the first layer of vis_inception.
        self.conv2d_init = nn.Conv2d(config.channels, config.stem_channels, kernel_size=1)
        layers: list[nn.Module] = [self.conv2d_init, nn.AvgPool2d(2)]
        channels, last = config.stem_channels, len(config.inception) - 1
        for i, widths in enumerate(config.inception):
            layers.append(Inception(channels, widths, config.batch_norm_eps, use_5x5=i != last))
            channels = widths.out_channels(with_5x5=i != last)
            if i % 2:
                layers.append(nn.AvgPool2d(2))
        layers += [nn.Flatten(), nn.Linear(config.vis_features, config.vis_hidden), nn.ReLU()]
        layers.append(nn.Linear(config.vis_hidden, config.vis_out))
        self.vis_inception = nn.Sequential(*layers)
        self.magnitude_block = _perceptron((config.magnitudes, *config.magnitude_widths))

    def forward(self, image: Tensor, magnitude: Tensor) -> Tensor:
        """[B, C, H, W] and [B, M] → [B, vis_out + last magnitude width]."""
        return torch.cat((self.vis_inception(image), self.magnitude_block(magnitude)), dim=1)


def _perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mixture_outputs(raw: Tensor, components: int) -> Tensor:
    """What the head's last layer gives [B, 1 + 3·K] as redshift, means, sigmas and weights; K = 0: as it is."""
    if not components:
        return raw
    linear, log_sigma, logits = torch.split(raw, [1 + components, components, components], dim=1)
    return torch.cat((linear, log_sigma.exp(), logits.softmax(dim=1)), dim=1)


class AstroMAE(nn.Module):
    """Redshift from `image` float32 [B, C, H, W] and `magnitude` float32 [B, M]: float32 [B, 1].

    With a mixture-density head [B, 1 + 3·K], see `models/mixture.py`.
    """

    def __init__(self, config: AstroMAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AstroMAEConfig()
        width = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid_size**2, width))
        self.fc_norm = nn.LayerNorm(width, eps=config.fc_norm_eps)
        self.head = nn.Linear(width, width)
        self.inception_model = LocalBranches(config)
        self.blocks = nn.ModuleList(NormalCell(config) for _ in range(config.depth))
        self.patch_embed = PatchEmbed(config)
        self.vit_block = _perceptron((width, config.vit_hidden, config.vit_out))
        joined = config.vit_out + config.vis_out + config.magnitude_widths[-1]
        self.concat_block = _perceptron((joined, config.head_hidden, config.head_width))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, image: Tensor, magnitude: Tensor) -> Tensor:
        """[B, 1 + 3·K]; the inputs are raw, any scaling is in the first layers' weights."""
        return mixture_outputs(self.forward_raw(image, magnitude), self.config.mixture)

    def forward_raw(self, image: Tensor, magnitude: Tensor) -> Tensor:
        """What the head's last layer gives, [B, 1 + 3·K]."""
        raw: Tensor = self.concat_block(self.forward_features(image, magnitude))
        return raw

    def forward_features(self, image: Tensor, magnitude: Tensor) -> Tensor:
        """What the head takes, of both branches: [B, vit_out + vis_out + last magnitude width]."""
        return torch.cat((self.forward_global(image), self.inception_model(image, magnitude)), dim=1)

    def forward_global(self, image: Tensor) -> Tensor:
        """The transformer branch: [B, C, H, W] → [B, vit_out]."""
        patches = self.patch_embed(image)
        cls_token = self.cls_token.expand(patches.shape[0], -1, -1)
        tokens = torch.cat((cls_token, patches), dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.fc_norm(tokens[:, 1:].mean(dim=1))
        out: Tensor = self.vit_block(self.head(pooled))
        return out
