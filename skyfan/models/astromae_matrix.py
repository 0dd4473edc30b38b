"""AstroMAE as matrix products: the one derivation from its weights, for the graphs of every engine.

Where the time of the plain form goes (benchmarks/NOTES.md): grouped 3×3 convolutions on a 4×4 grid, whose few
channels fill no vector register, and batch norms that pass over memory once more. So here a grouped convolution is
written out as one matrix a group over the whole grid, batch norms are folded into the convolutions before them,
convolutions of the same image become one, and the patch embedding is a linear layer whose bias holds the positions.
numpy only; sums in float64. Graphs: `engines/openvino_graph.py`, `engines/torch_graph.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skyfan.models.config import INCEPTION_POSITIONS, VIS_LINEAR_POSITIONS, AstroMAEConfig

Array = NDArray[np.floating[Any]]
# Beyond this many values of all groups' matrices (64 MB a convolution), a convolution is cheaper than reading them.
MAX_MATRIX_VALUES = 16 * 2**20


@dataclass(frozen=True)
class Affine:
    """Weight and bias of a linear layer [out, in], a convolution [out, in, k, k] or grid products [groups, in, out]."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class CellForm:
    """One transformer block, D wide, with P patches and G groups of its parallel convolutions (PCM).

    `widen` and `narrow` are PCM's convolutions. With `as_matrices`: [G, P·D/G, P·H/G] and [G, P·H/G, P·D/G], for
    values laid out pixel by pixel, biases [G, 1, …]; else convolutions [H, D/G, 3, 3] and [D, H/G, 3, 3].
    """

    norm1: Affine
    qkv: Affine
    proj: Affine
    norm2: Affine
    fc1: Affine
    fc2: Affine
    widen: Affine
    narrow: Affine
    as_matrices: bool


@dataclass(frozen=True)
class InceptionForm:
    """One inception block: the 1×1 convolutions of its input as one, then 3×3, 5×5 (not in the last), pooled 1×1."""

    entry: Affine
    entry_widths: tuple[int, ...]
    spatial: tuple[Affine, ...]
    pooled: Affine


@dataclass(frozen=True)
class MatrixForm:
    """All layers of one AstroMAE, in the order of the computation.

    `patches`: weight [D, C·p·p], bias [P, D] with the positions; `first_token` [1, D]: class token with its position.
    `stem` comes after the pooling that the module has behind it: both are linear, and a quarter of the pixels is left.
    """

    config: AstroMAEConfig
    patches: Affine
    first_token: Array
    cells: tuple[CellForm, ...]
    fc_norm: Affine
    vit: tuple[Affine, ...]
    """head, vit_block.0 · ReLU · vit_block.2: no activation between the first two."""
    stem: Affine
    inception: tuple[InceptionForm, ...]
    vis: tuple[Affine, ...]
    magnitude: tuple[Affine, ...]
    joined: tuple[Affine, ...]


def matrix_form(
    weights: Mapping[str, Array],
    config: AstroMAEConfig,
    dtype: DTypeLike = np.float32,
    max_matrix_values: int = MAX_MATRIX_VALUES,
) -> MatrixForm:
    """The matrix form of a state dict (names as in `models/shapes.py`), in `dtype`; sums are taken in float64.

    A convolution whose matrices would have more than `max_matrix_values` values stays a convolution.
    """
    read = _WeightReader(weights, config.batch_norm_eps, np.dtype(dtype))
    vis, magnitude = "inception_model.vis_inception", "inception_model.magnitude_block"
    patches, positions = read.affine("patch_embed.proj"), read("pos_embed")[0]
    last = len(INCEPTION_POSITIONS) - 1
    return MatrixForm(
        config=config,
        patches=Affine(patches.weight.reshape(config.embed_dim, -1), patches.bias + positions[1:]),
        first_token=read("cls_token")[0] + positions[:1],
        cells=tuple(_cell(read, f"blocks.{n}", config, max_matrix_values) for n in range(config.depth)),
        fc_norm=read.affine("fc_norm"),
        vit=read.affines("head", "vit_block.0", "vit_block.2"),
        stem=read.affine(f"{vis}.0"),
        inception=tuple(
            _inception(read, f"{vis}.{position}", use_5x5=number != last)
            for number, position in enumerate(INCEPTION_POSITIONS)
        ),
        vis=read.affines(*(f"{vis}.{position}" for position in VIS_LINEAR_POSITIONS)),
        magnitude=read.affines(*(f"{magnitude}.{2 * layer}" for layer in range(len(config.magnitude_widths)))),
        joined=read.affines("concat_block.0", "concat_block.2"),
    )


@dataclass(frozen=True)
class _WeightReader:
    """Looks whole layers up by name, in one dtype."""

    weights: Mapping[str, Array]
    batch_norm_eps: float
    dtype: np.dtype[Any]

    def __call__(self, name: str) -> Array:
        return np.asarray(self.weights[name], self.dtype)

    def affine(self, name: str) -> Affine:
        return Affine(self(f"{name}.weight"), self(f"{name}.bias"))

    def affines(self, *names: str) -> tuple[Affine, ...]:
        return tuple(self.affine(name) for name in names)

    def folded(self, conv: str, norm: str) -> Affine:
        """The convolution that does what `conv` followed by the batch norm `norm` does in evaluation mode."""
        mean, variance, gamma, beta = (
            np.asarray(self.weights[f"{norm}.{part}"], np.float64)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale = gamma / np.sqrt(variance + self.batch_norm_eps)
        weight = self.weights[f"{conv}.weight"] * scale[:, None, None, None]
        bias = (self.weights[f"{conv}.bias"] - mean) * scale + beta
        return Affine(weight.astype(self.dtype), bias.astype(self.dtype))

    def folded_block(self, name: str) -> Affine:
        """`<name>.conv` followed by `<name>.bn`."""
        return self.folded(f"{name}.conv", f"{name}.bn")

    def qkv(self, attention: str, width: int) -> Affine:
        """Weight [3·D, D] and bias [3·D] of q, k and v together; k has no bias."""
        bias = np.zeros(3 * width, self.dtype)
        if f"{attention}.q_bias" in self.weights:
            bias[:width], bias[2 * width :] = self(f"{attention}.q_bias"), self(f"{attention}.v_bias")
        return Affine(self(f"{attention}.qkv.weight"), bias)


def _cell(read: _WeightReader, name: str, config: AstroMAEConfig, max_matrix_values: int) -> CellForm:
    widen, narrow = read.folded(f"{name}.PCM.0", f"{name}.PCM.1"), read.affine(f"{name}.PCM.3")
    groups, grid = config.pcm_groups, config.grid_size
    as_matrices = grid**4 * widen.weight[:, :, 0, 0].size <= max_matrix_values
    if as_matrices:
        widen, narrow = grid_matrices(widen, groups, grid), grid_matrices(narrow, groups, grid)
    return CellForm(
        norm1=read.affine(f"{name}.norm1"),
        qkv=read.qkv(f"{name}.attn", config.embed_dim),
        proj=read.affine(f"{name}.attn.proj"),
        norm2=read.affine(f"{name}.norm2"),
        fc1=read.affine(f"{name}.mlp.fc1"),
        fc2=read.affine(f"{name}.mlp.fc2"),
        widen=widen,
        narrow=narrow,
        as_matrices=as_matrices,
    )


def _inception(read: _WeightReader, name: str, *, use_5x5: bool) -> InceptionForm:
    branches = ["branch2", "branch3"] if use_5x5 else ["branch2"]
    entries = [read.folded_block(f"{name}.{block}") for block in ("branch1", *(f"{b}.0" for b in branches))]
    return InceptionForm(
        entry=_stacked(entries),
        entry_widths=tuple(len(part.bias) for part in entries),
        spatial=tuple(read.folded_block(f"{name}.{branch}.1") for branch in branches),
        pooled=read.folded_block(f"{name}.branch4.1"),
    )


def _stacked(parts: Sequence[Affine]) -> Affine:
    return Affine(np.concatenate([p.weight for p in parts]), np.concatenate([p.bias for p in parts]))


def grid_matrices(conv: Affine, groups: int, grid: int) -> Affine:
    """A grouped, padded convolution [C_out, C_in/G, k, k] of a small grid as matrices.

    Weight [G, P·C_in/G, P·C_out/G] and bias [G, 1, P·C_out/G] with P = grid², for values laid out pixel by pixel.
    """
    channels, inputs, size, _ = conv.weight.shape
    outputs, pixels = channels // groups, grid * grid
    kernels = conv.weight.reshape(groups, outputs, inputs, size, size)
    matrix = np.zeros((groups, grid, grid, inputs, grid, grid, outputs), conv.weight.dtype)
    for row, column, dy, dx in np.ndindex(grid, grid, size, size):
        y, x = row + dy - size // 2, column + dx - size // 2
        if 0 <= y < grid and 0 <= x < grid:
            matrix[:, y, x, :, row, column, :] = kernels[..., dy, dx].transpose(0, 2, 1)
    bias = np.broadcast_to(conv.bias.reshape(groups, 1, outputs), (groups, pixels, outputs))
    return Affine(
        matrix.reshape(groups, pixels * inputs, pixels * outputs), bias.reshape(groups, 1, pixels * outputs).copy()
    )
