"""AstroMAE in the form that runs fastest on CPUs: the same function, made of matrix products.

Where the time of the plain form goes (benchmarks/NOTES.md): grouped 3×3 convolutions on a 4×4 grid, whose few
channels fill no vector register; batch norms and activations that pass over memory once more; and 1×1
convolutions of the same image one after the other. So here
- a grouped convolution is one matrix product a group, over the whole grid (the convolution written out as a
  matrix: [pixels·channels in, pixels·channels out]),
- batch norms are folded into the convolutions before them,
- the first 1×1 convolutions of an inception block are one,
- the stem's pooling comes before its 1×1 convolution (both are linear: the order makes no difference).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skyfan.models.astromae import AstroMAE, ConvBlock, Inception, NormalCell

# A group's matrix is [grid²·channels in, grid²·channels out]: beyond this many values for all groups together
# (64 MB) a convolution is cheaper than reading the matrix.
MAX_UNROLLED_VALUES = 16 * 2**20


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().contiguous(), requires_grad=False)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what `conv` followed by `norm` in evaluation mode does."""
    assert conv.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    return weight.float(), bias.float()


class GridConv(nn.Module):
    """A grouped convolution of a small grid as batched matrix products: [G, B, P·C_in/G] → [G, B, P·C_out/G]."""

    def __init__(self, weight: Tensor, bias: Tensor, groups: int, grid: int) -> None:
        super().__init__()
        pixels, outputs, inputs = grid * grid, weight.shape[0] // groups, weight.shape[1]
        # Every unit image (one pixel, one channel) convolved: its response is a row of the matrix.
        units = torch.eye(pixels * inputs).view(-1, pixels, inputs).transpose(1, 2).reshape(-1, inputs, grid, grid)
        rows = [
            F.conv2d(units, weight[g * outputs : (g + 1) * outputs], padding=weight.shape[-1] // 2)
            .flatten(2)
            .transpose(1, 2)
            .reshape(pixels * inputs, pixels * outputs)
            for g in range(groups)
        ]
        self.weight = _constant(torch.stack(rows))
        spread = bias.view(groups, 1, outputs).expand(groups, pixels, outputs)
        self.bias = _constant(spread.reshape(groups, 1, pixels * outputs))

    def forward(self, grids: Tensor) -> Tensor:
        """Every group's grid, flattened pixel by pixel."""
        return torch.matmul(grids, self.weight) + self.bias


class UnrolledPCM(nn.Module):
    """Convolution · batch norm · SiLU · convolution on the tokens: [B, P, D] → [B, P, D]."""

    def __init__(self, cell: NormalCell) -> None:
        super().__init__()
        first, norm, last = cell.PCM[0], cell.PCM[1], cell.PCM[3]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        self.groups = first.groups
        self.widen = GridConv(*fold_batch_norm(first, norm), first.groups, cell.grid)
        self.narrow = GridConv(last.weight, last.bias, last.groups, cell.grid)

    def forward(self, tokens: Tensor) -> Tensor:
        """Channels of one group lie together, so that a group's grid is gathered in short runs."""
        batch, pixels, width = tokens.shape
        grouped = tokens.reshape(batch, pixels, self.groups, width // self.groups).permute(2, 0, 1, 3)
        hidden = F.silu(self.widen(grouped.reshape(self.groups, batch, pixels * width // self.groups)))
        out = self.narrow(hidden).view(self.groups, batch, pixels, width // self.groups)
        return out.permute(1, 2, 0, 3).reshape(batch, pixels, width)


class FoldedPCM(nn.Module):
    """The same as convolutions, where the groups are so wide that their matrices would be huge."""

    def __init__(self, cell: NormalCell) -> None:
        super().__init__()
        first, norm, last = cell.PCM[0], cell.PCM[1], cell.PCM[3]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        self.grid, self.groups = cell.grid, first.groups
        self.weight, self.bias = (_constant(part) for part in fold_batch_norm(first, norm))
        self.narrow = last

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, P, D] → [B, P, D]."""
        batch, pixels, width = tokens.shape
        grid = tokens.transpose(1, 2).reshape(batch, width, self.grid, self.grid)
        hidden = F.silu(F.conv2d(grid, self.weight, self.bias, padding=1, groups=self.groups))
        local: Tensor = self.narrow(hidden)
        return local.reshape(batch, width, pixels).transpose(1, 2)


def _unrolled_values(cell: NormalCell) -> int:
    conv = cast("nn.Conv2d", cell.PCM[0])
    return int(cell.grid**4 * conv.in_channels * conv.out_channels // conv.groups)


class Cell(nn.Module):
    """A transformer block with its convolution on matrix products: [B, 1 + P, D] → the same."""

    def __init__(self, cell: NormalCell) -> None:
        super().__init__()
        attention = cell.attn
        self.heads = attention.num_heads
        self.norm1, self.norm2, self.mlp, self.proj = cell.norm1, cell.norm2, cell.mlp, attention.proj
        self.qkv_weight = attention.qkv.weight
        q, v = attention.q_bias, attention.v_bias
        none = torch.zeros(attention.qkv.out_features)
        self.qkv_bias = _constant(none if q is None or v is None else torch.cat((q, torch.zeros_like(v), v)))
        self.pcm = UnrolledPCM(cell) if _unrolled_values(cell) <= MAX_UNROLLED_VALUES else FoldedPCM(cell)

    def forward(self, tokens: Tensor) -> Tensor:
        """As `NormalCell.forward`."""
        batch, count, width = tokens.shape
        local = self.pcm(tokens[:, 1:])
        qkv = F.linear(self.norm1(tokens), self.qkv_weight, self.qkv_bias).view(batch, count, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width)
        tokens = tokens + self.proj(attended) + F.pad(local, (0, 0, 1, 0))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class FoldedConv(nn.Module):
    """Convolution with its batch norm folded in, and ReLU."""

    def __init__(self, *blocks: ConvBlock) -> None:
        super().__init__()
        folded = [fold_batch_norm(block.conv, block.bn) for block in blocks]
        self.weight = _constant(torch.cat([weight for weight, _ in folded]))
        self.bias = _constant(torch.cat([bias for _, bias in folded]))
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] → [B, C_out of all blocks, H, W]."""
        return F.relu(F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2))


class FoldedInception(nn.Module):
    """An inception block whose 1×1 convolutions of the input are one."""

    def __init__(self, block: Inception) -> None:
        super().__init__()
        first = [block.branch1, block.branch2[0], *([block.branch3[0]] if block.use_5x5 else [])]
        heads = [cast("ConvBlock", layer) for layer in first]
        self.widths = [layer.conv.out_channels for layer in heads]
        self.first = FoldedConv(*heads)
        second = [block.branch2[1], *([block.branch3[1]] if block.use_5x5 else [])]
        self.second = nn.ModuleList(FoldedConv(cast("ConvBlock", layer)) for layer in second)
        self.pooled = FoldedConv(cast("ConvBlock", block.branch4[1]))

    def forward(self, x: Tensor) -> Tensor:
        """As `Inception.forward`."""
        direct, *narrow = self.first(x).split(self.widths, dim=1)
        branches = [conv(part) for conv, part in zip(self.second, narrow, strict=True)]
        pooled = self.pooled(F.max_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat((direct, *branches, pooled), dim=1)


class GemmAstroMAE(nn.Module):
    """`AstroMAE.forward` in three steps, so that the middle one can run at another precision."""

    def __init__(self, model: AstroMAE) -> None:
        super().__init__()
        self.patch_embed, self.cls_token, self.pos_embed = model.patch_embed, model.cls_token, model.pos_embed
        local = model.inception_model
        layers = list(local.vis_inception.children())
        self.stem = cast("nn.Conv2d", layers[0])
        self.vis = nn.Sequential(
            *(FoldedInception(layer) if isinstance(layer, Inception) else layer for layer in layers[2:])
        )
        self.magnitude_block = local.magnitude_block
        self.cells = nn.ModuleList(Cell(cast("NormalCell", block)) for block in model.blocks)
        self.fc_norm, self.head, self.vit_block = model.fc_norm, model.head, model.vit_block
        self.concat_block = model.concat_block

    def before(self, image: Tensor, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, 1 + P, D] and the local branches' values [B, vis + magnitude]."""
        patches = self.patch_embed(image)
        cls_token = self.cls_token.expand(image.shape[0], -1, -1)
        tokens = torch.cat((cls_token, patches), dim=1) + self.pos_embed
        pooled = F.avg_pool2d(image, 2).contiguous(memory_format=torch.channels_last)
        return tokens, torch.cat((self.vis(self.stem(pooled)), self.magnitude_block(magnitude)), dim=1)

    def middle(self, tokens: Tensor) -> Tensor:
        """The transformer's blocks: [B, 1 + P, D] → mean over the patches [B, D]."""
        for cell in self.cells:
            tokens = cell(tokens)
        return tokens[:, 1:].mean(dim=1)

    def after(self, pooled: Tensor, local: Tensor) -> Tensor:
        """Redshift [B, 1]."""
        joined = torch.cat((self.vit_block(self.head(self.fc_norm(pooled))), local), dim=1)
        redshift: Tensor = self.concat_block(joined)
        return redshift

    def forward(self, image: Tensor, magnitude: Tensor) -> Tensor:
        """As `AstroMAE.forward`."""
        tokens, local = self.before(image, magnitude)
        return self.after(self.middle(tokens), local)


def gemm_form(model: AstroMAE) -> GemmAstroMAE:
    """The same model as matrix products; it shares the parameters that it does not change."""
    with torch.no_grad():
        form = GemmAstroMAE(model).eval()
    return form.requires_grad_(False)
