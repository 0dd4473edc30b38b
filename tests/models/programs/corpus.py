"""Honest programs of many kinds, small and with random weights: what users of `.pt2` files bring.

Each takes `image` [B, 5, 16, 16], `magnitude` [B, 5] or both, and gives rows.
"""

import io
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Example = tuple[Tensor, ...]


def export(model: nn.Module, example: Example, *, dynamic: bool = True, train: bool = False) -> bytes:
    """The bytes of the `.pt2` file that a user gets by exporting with a free batch dimension."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in example) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own recurrent layers and old functions
        program = torch.export.export(model.train(train), example, dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def image(count: int = 4) -> Tensor:
    """Random images."""
    return torch.rand(count, 5, 16, 16, generator=torch.Generator().manual_seed(1))


def magnitude(count: int = 4) -> Tensor:
    """Random magnitudes."""
    return 14 + 8 * torch.rand(count, 5, generator=torch.Generator().manual_seed(2))


class Convolutions(nn.Module):
    """A residual network with every kind of convolution, norm and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(5, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8, dilation=2)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.norms = nn.Sequential(nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True))
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = x + F.silu(self.depthwise(x))
        x = self.norms(self.pool(self.up(x)))
        x = F.hardswish(x) * F.hardsigmoid(x) + F.gelu(x, approximate="tanh") + F.elu(x) + F.leaky_relu(x)
        return self.head(F.adaptive_max_pool2d(F.softplus(x) + F.mish(x), 2))


class UNet(nn.Module):
    """Down, up, skip connections; interpolation and pixel shuffling."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid = nn.Conv2d(5, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.up, self.last = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(13, 1, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, image: Tensor) -> Tensor:
        a = F.relu6(self.down(image))
        b = F.interpolate(self.mid(F.avg_pool2d(a, 2)), scale_factor=2, mode="nearest")
        c = F.interpolate(self.up(torch.cat((a, b), 1)), size=(16, 16), mode="bilinear", align_corners=False)
        d = F.pad(F.interpolate(a, scale_factor=2, mode="bicubic"), (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1]
        e = self.shuffle(a).mean((1, 2, 3), keepdim=True)
        return self.last(torch.cat((image, c + d), 1)).amax((2, 3)) + e.flatten(1)


class Transformer(nn.Module):
    """Patches, a class token, attention blocks of PyTorch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(5, 16, 4, stride=4)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, 16)), nn.Parameter(torch.zeros(1, 17, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu", norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        return self.head(self.blocks(x)[:, 0])


class Attention(nn.Module):
    """Attention written out: einsum, masks, softmax, roll and windows."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(5, 48), nn.Linear(16, 1)
        self.register_buffer("bias", torch.randn(16, 16))
        self.register_buffer("where", torch.arange(256).view(16, 16) % 16)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.roll(image.permute(0, 2, 3, 1), shifts=(2, 2), dims=(1, 2))
        x = x.view(-1, 4, 4, 4, 4, 5).transpose(2, 3).reshape(-1, 16, 5)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mask = torch.triu(torch.ones(16, 16, dtype=torch.bool), diagonal=1)
        scores = torch.einsum("bic,bjc->bij", q, k) / math.sqrt(16) + self.bias[0][self.where]
        scores = scores.masked_fill(mask, float("-inf")).softmax(-1)
        y = torch.bmm(scores, v) + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.view(image.shape[0], 16, 16, 16).mean((1, 2)))


class Recurrent(nn.Module):
    """An LSTM and a GRU over the bands, in order of wavelength."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(1, 8, 2, batch_first=True, bidirectional=True), nn.GRU(16, 8, batch_first=True)
        self.rnn, self.cell, self.head = nn.RNN(8, 4, batch_first=True), nn.LSTMCell(4, 4), nn.Linear(4, 1)

    def forward(self, magnitude: Tensor) -> Tensor:
        y, _ = self.lstm(magnitude.unsqueeze(-1))
        y, _ = self.gru(y)
        y, _ = self.rnn(y)
        h, c = self.cell(y[:, -1])
        return self.head(h + c)


class Embeddings(nn.Module):
    """Classes by binning a magnitude, looked up in tables."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(16, 4), nn.Linear(20, 1)
        self.register_buffer("edges", torch.linspace(14, 22, 15))

    def forward(self, magnitude: Tensor) -> Tensor:
        bins = torch.bucketize(magnitude, self.edges)
        one_hot = torch.zeros(magnitude.shape[0], 16).scatter(1, bins[:, :1], 1.0)
        picked = torch.gather(magnitude, 1, bins.clamp(0, 4)) + torch.index_select(magnitude, 1, torch.arange(5))
        return self.head(self.table(bins).flatten(1)) + one_hot.sum(1, keepdim=True) + picked.amax(1, keepdim=True)


class MixtureDensity(nn.Module):
    """Weights, means and widths of a mixture, and its density on a grid of redshifts."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 32), nn.Tanh(), nn.LayerNorm(32), nn.Linear(32, 9))
        self.register_buffer("grid", torch.linspace(0, 3, 21))

    def forward(self, magnitude: Tensor) -> dict[str, Tensor]:
        weight, mean, width = self.body(magnitude).split(3, dim=1)
        weight, mean, width = torch.log_softmax(weight, 1), F.softplus(mean), width.exp().clamp(min=1e-3)
        x = (self.grid[None, :, None] - mean[:, None]) / width[:, None]
        log_p = torch.logsumexp(weight[:, None] - 0.5 * x**2 - width.log()[:, None] - 0.5 * math.log(2 * math.pi), 2)
        pdf = log_p.exp() / torch.trapezoid(log_p.exp(), self.grid, dim=1)[:, None]
        cdf = pdf.cumsum(1)
        return {"z": (pdf * self.grid).sum(1), "mode": self.grid[pdf.argmax(1)], "pdf": pdf, "pit": torch.erf(cdf)}


class Flow(nn.Module):
    """Coupling layers and a rational-quadratic spline, as normalising flows have."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(2, 3), nn.Linear(2, 3)
        self.widths = nn.Linear(5, 8)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        a, b = magnitude[:, :2], magnitude[:, 2:]
        scale = torch.tanh(self.scale(a))
        b = b * torch.exp(scale) + self.shift(a)
        x = torch.cat((a, b), 1).flip(1)
        knots = F.pad(F.softmax(self.widths(x), -1).cumsum(-1), (1, 0))
        at = torch.sigmoid(x[:, :1])
        found = torch.searchsorted(knots.contiguous(), at).clamp(1, 8)
        low, high = knots.gather(1, found - 1), knots.gather(1, found)
        t = torch.where(high > low, (at - low) / (high - low + 1e-6), torch.zeros_like(at))
        return t * t / (1 + t.square().sqrt() + torch.rsqrt(1 + t.abs())), scale.sum(1)


class Arithmetic(nn.Module):
    """Colours, comparisons, reductions, rounding: features made by hand."""

    def forward(self, magnitude: Tensor) -> Tensor:
        colour = magnitude[:, :-1] - magnitude[:, 1:]
        stack = torch.stack((colour.amin(1), colour.amax(1), colour.std(1), colour.var(1), colour.prod(1)), 1)
        flags = ((magnitude > 20) & ~(magnitude >= 21) | (magnitude != magnitude)).any(1) & torch.isfinite(stack).all(1)
        top, _ = torch.topk(magnitude, 2, dim=1)
        ordered, place = torch.sort(magnitude, dim=1)
        angle = torch.atan2(colour[:, 0], colour[:, 1]) + torch.sin(colour[:, 2]) * torch.cos(colour[:, 3])
        whole = torch.floor(stack) + torch.ceil(stack) + torch.round(stack) + torch.sign(stack) + stack % 2
        more = torch.maximum(stack, whole).minimum(stack.abs() + 1).nan_to_num(0.0) + torch.log1p(stack.abs())
        norm = torch.linalg.vector_norm(magnitude, dim=1) + magnitude.norm(dim=1) + magnitude.median(1).values
        total = 1 / more.sum(1) + flags.float() + top[:, 0] - ordered[:, 0] * place[:, 0] + angle + norm
        return torch.addmm(total[:, None], stack, torch.eye(5)[:, :1]) + total.reciprocal()[:, None].pow(2).log2()


class NoGrad(nn.Module):
    """Switches gradients off by itself, which exports a higher-order operator with a graph inside."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.head = nn.Linear(5, 4), nn.Linear(4, 1)

    def forward(self, image: Tensor, magnitude: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.frozen(magnitude).relu()
            x = x - x.mean(1, keepdim=True)
        return self.head(x) + image.mean((1, 2, 3))[:, None]


class Spectrum(nn.Module):
    """One-dimensional convolutions and squeeze-and-excite gates."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(5, 8, 5, padding=2, stride=2), nn.Conv1d(8, 8, 3, padding_mode="circular", padding=1)
        self.gate, self.head = (
            nn.Sequential(nn.Linear(8, 2), nn.PReLU(), nn.Linear(2, 8), nn.Sigmoid()),
            nn.Linear(8, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool1d(F.selu(self.b(self.a(image.mean(2)))), 2)
        x = x * self.gate(x.mean(2)).unsqueeze(-1)
        x = F.adaptive_avg_pool1d(F.glu(torch.cat((x, x), 1), dim=1), 1).squeeze(-1)
        return self.head(F.normalize(x, dim=1)) + F.cosine_similarity(x, x + 1).unsqueeze(1).repeat(1, 1)


class Volume(nn.Module):
    """Bands as a third dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.LeakyReLU(0.1, inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        x = self.body(image.unsqueeze(1))
        return torch.cat(
            [part.mean((1, 2, 3, 4))[:, None] for part in x.tensor_split(2, dim=1)] + [x[:, 0, 0, 0, :1]], 1
        )


CORPUS: dict[str, tuple[Callable[[], nn.Module], Example]] = {
    "convolutions": (Convolutions, (image(),)),
    "u-net": (UNet, (image(),)),
    "transformer": (Transformer, (image(),)),
    "attention": (Attention, (image(),)),
    "recurrent": (Recurrent, (magnitude(),)),
    "embeddings": (Embeddings, (magnitude(),)),
    "mixture-density": (MixtureDensity, (magnitude(),)),
    "flow": (Flow, (magnitude(),)),
    "arithmetic": (Arithmetic, (magnitude(),)),
    "no-grad": (NoGrad, (image(), magnitude())),
    "spectrum": (Spectrum, (image(),)),
    "volume": (Volume, (image(),)),
}
