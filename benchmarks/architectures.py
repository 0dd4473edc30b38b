"""Architectures of random weights, for `benchmarks/models.py`: those of the field written here, and torchvision's."""

import math
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Example = tuple[Tensor, ...]
Made = tuple[nn.Module, Example]
_BATCH, _SIDE = 4, 64


def _images(channels: int = 5, side: int = _SIDE) -> Tensor:
    return torch.rand(_BATCH, channels, side, side)


def _magnitudes(count: int = 5) -> Tensor:
    return 14 + 8 * torch.rand(_BATCH, count)


class _Block(nn.Module):
    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(taken, given, 3, padding=1), nn.BatchNorm2d(given), nn.ReLU(),
            nn.Conv2d(given, given, 3, padding=1), nn.BatchNorm2d(given), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class UNet(nn.Module):
    """Three levels with skip connections; a map of the input's size."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList([_Block(5, 16), _Block(16, 32), _Block(32, 64)])
        self.up = nn.ModuleList([_Block(96, 32), _Block(48, 16)])
        widths = (64, 32)
        self.wider = nn.ModuleList(
            [nn.ConvTranspose2d(w, w, 2, stride=2) if transposed else nn.Upsample(scale_factor=2) for w in widths]
        )
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.down[0](image)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.down[2](F.max_pool2d(b, 2))
        x = self.up[0](torch.cat((self.wider[0](x), b), 1))
        x = self.up[1](torch.cat((self.wider[1](x), a), 1))
        return self.head(x)


class VisionTransformer(nn.Module):
    """Patches of 8, torch's own encoder layers, magnitudes joined at the end."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(5, 96, 8, stride=8)
        self.place = nn.Parameter(torch.randn(1, 64, 96))
        layer = nn.TransformerEncoderLayer(96, 4, 192, batch_first=True, activation="gelu", norm_first=norm_first)
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(101, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, image: Tensor, magnitude: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2) + self.place
        return self.head(torch.cat((self.blocks(x).mean(1), magnitude), 1))


class Inception(nn.Module):
    """Parallel kernels on small cut-outs and a histogram of redshift, after Pasquet et al. 2019."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(5, 64, 5, padding=2), nn.PReLU(), nn.AvgPool2d(2))
        self.branches = nn.ModuleList([nn.Conv2d(64, 32, k, padding=k // 2) for k in (1, 3, 5)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96 * 16, 180))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        pdf = self.head(torch.cat([F.relu(branch(x)) for branch in self.branches], 1)).softmax(1)
        return {"pdf": pdf, "z": (pdf * torch.linspace(0, 3, 180)).sum(1)}


class ConvolutionsAndTransformer(nn.Module):
    """A convolutional stem, then attention over its map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Block(5, 32), nn.MaxPool2d(4), _Block(32, 64), nn.MaxPool2d(2))
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 2))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image).flatten(2).transpose(1, 2)
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Perceptron(nn.Module):
    """Magnitudes to redshift, the field's smallest."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.SiLU(), nn.LayerNorm(width))]
        self.layers = nn.Sequential(nn.Linear(5, width), *hidden, nn.Linear(width, 1))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.layers(magnitude)


class Recurrent(nn.Module):
    """A light curve of 20 epochs through an LSTM or a GRU."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers, self.head = kind(6, 64, 1, batch_first=True), nn.Linear(64, 5)

    def forward(self, curve: Tensor) -> Tensor:
        return self.head(self.layers(curve)[0][:, -1]).softmax(1)


class Coupling(nn.Module):
    """A normalising flow of affine coupling layers (RealNVP): latent values and the log-determinant."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 6)) for _ in range(layers))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        a, b = features.chunk(2, dim=1)
        total = features.new_zeros(features.shape[0])
        for net in self.nets:
            scale, shift = net(a).chunk(2, dim=1)
            scale = torch.tanh(scale)
            a, b = b * scale.exp() + shift, a
            total = total + scale.sum(1)
        return torch.cat((a, b), 1), total


class Mixture(nn.Module):
    """A mixture-density head of eight Gaussians, and its density on 301 redshifts."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 24))
        self.register_buffer("grid", torch.linspace(0, 3, 301))

    def forward(self, magnitude: Tensor) -> dict[str, Tensor]:
        weight, mean, width = self.body(magnitude).chunk(3, dim=1)
        width = F.softplus(width) + 1e-3
        x = (self.grid[None, :, None] - mean[:, None]) / width[:, None]
        log_p = weight.log_softmax(1)[:, None] - 0.5 * x**2 - width.log()[:, None] - 0.5 * math.log(2 * math.pi)
        return {"log_pdf": torch.logsumexp(log_p, 2), "mean": (weight.softmax(1) * mean).sum(1)}


class Binned(nn.Module):
    """Embeddings of binned magnitudes, attention among the bands."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(14, 22, 63))
        self.table, self.attention = nn.Embedding(64, 32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, magnitude: Tensor) -> Tensor:
        x = self.table(torch.bucketize(magnitude, self.edges))
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Spectrum(nn.Module):
    """A one-dimensional residual network on 512 wavelengths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 32, 7, stride=2, padding=3)
        self.blocks = nn.ModuleList(nn.Conv1d(32, 32, 5, padding=2) for _ in range(4))
        self.head = nn.Linear(32, 1)

    def forward(self, flux: Tensor) -> Tensor:
        x = self.stem(flux.unsqueeze(1))
        for block in self.blocks:
            x = x + F.gelu(block(x))
        return self.head(x.mean(2))


class AutoEncoder(nn.Module):
    """Image → 16 values → image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(5, 32, 4, 2, 1), nn.ELU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ELU(), nn.Flatten(),
            nn.Linear(64 * 64, 16),
        )  # fmt: skip
        self.widen = nn.Linear(16, 64 * 64)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(32, 5, 4, 2, 1)
        )  # fmt: skip

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        code = self.encoder(image)
        again = self.decoder(self.widen(code).view(-1, 64, 8, 8))
        return {"code": code, "error": (again - image).square().mean((1, 2, 3))}


OWN: dict[str, Callable[[], Made]] = {
    "convolutions + attention": lambda: (ConvolutionsAndTransformer(), (_images(),)),
    "perceptron, 128 wide": lambda: (Perceptron(128, 3), (_magnitudes(),)),
    "perceptron, 512 wide": lambda: (Perceptron(512, 6), (_magnitudes(),)),
    "mixture density": lambda: (Mixture(), (_magnitudes(),)),
    "affine coupling flow": lambda: (Coupling(), (_magnitudes(6),)),
    "U-Net, nearest": lambda: (UNet(transposed=False), (_images(),)),
    "U-Net, transposed": lambda: (UNet(transposed=True), (_images(),)),
    "inception, p(z)": lambda: (Inception(), (_images(side=32),)),
    "vision transformer, pre-norm": lambda: (VisionTransformer(norm_first=True), (_images(), _magnitudes())),
    "vision transformer, post-norm": lambda: (VisionTransformer(norm_first=False), (_images(), _magnitudes())),
    "spectrum, 1-d residual": lambda: (Spectrum(), (torch.rand(_BATCH, 512),)),
    "binned embeddings": lambda: (Binned(), (_magnitudes(),)),
    "auto-encoder": lambda: (AutoEncoder(), (_images(side=32),)),
    "LSTM, 20 epochs": lambda: (Recurrent(nn.LSTM), (torch.rand(_BATCH, 20, 6),)),
    "GRU, 20 epochs": lambda: (Recurrent(nn.GRU), (torch.rand(_BATCH, 20, 6),)),
}
TORCHVISION = (
    *("resnet18", "mobilenet_v3_small", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"),
    *("efficientnet_b0", "regnet_y_400mf", "vgg11_bn", "convnext_tiny", "resnet50", "densenet121", "swin_t"),
)


def torchvision_models() -> dict[str, Callable[[], Made]]:
    """torchvision's, where it is installed. Its wheel for GPUs loads on a CPU once two operators are declared."""
    if find_spec("torchvision") is None:
        return {}
    for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor x) -> Tensor"):
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            torch.library.define(f"torchvision::{schema.partition('(')[0]}", f"({schema.partition('(')[2]}")
    from torchvision import models

    return {name: (lambda name=name: (getattr(models, name)(weights=None), (_images(3),))) for name in TORCHVISION}
