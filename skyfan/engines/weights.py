"""AstroMAE's weights in the form that runs fastest on CPUs: the same function, made of matrix products.

Where the time of the plain form goes (benchmarks/NOTES.md): grouped 3×3 convolutions on a 4×4 grid, whose few
channels fill no vector register, and batch norms that pass over memory once more. So here a grouped
convolution is written out as one matrix a group over the whole grid, batch norms are folded into the
convolutions before them, and convolutions of the same image become one. numpy only; sums in float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
# Beyond this many values of all groups' matrices (64 MB a convolution), a convolution is cheaper than reading them.
MAX_UNROLLED_VALUES = 16 * 2**20


@dataclass(frozen=True)
class Affine:
    """Weight and bias of a linear layer [out, in] or a convolution [out, in, k, k]."""

    weight: Array
    bias: Array


class Weights:
    """A state dict as numpy arrays, with look-ups of whole layers by name."""

    def __init__(self, state: Mapping[str, Array], batch_norm_eps: float) -> None:
        self._state = state
        self._eps = batch_norm_eps

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self._state[name], np.float32)

    def affine(self, name: str) -> Affine:
        """`name.weight` and `name.bias`."""
        return Affine(self[f"{name}.weight"], self[f"{name}.bias"])

    def folded(self, conv: str, norm: str) -> Affine:
        """The convolution that does what `conv` followed by the batch norm `norm` does in evaluation mode."""
        mean, variance, gamma, beta = (
            self[f"{norm}.{part}"].astype(np.float64) for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale = gamma / np.sqrt(variance + self._eps)
        weight = self[f"{conv}.weight"] * scale[:, None, None, None]
        bias = (self[f"{conv}.bias"] - mean) * scale + beta
        return Affine(weight.astype(np.float32), bias.astype(np.float32))

    def folded_all(self, blocks: Sequence[str]) -> Affine:
        """Convolutions (`<block>.conv`, `<block>.bn`) of one input as one, their channels in order."""
        parts = [self.folded(f"{block}.conv", f"{block}.bn") for block in blocks]
        return Affine(np.concatenate([p.weight for p in parts]), np.concatenate([p.bias for p in parts]))

    def qkv_bias(self, attention: str, width: int) -> Array:
        """The bias of q, k and v together; k has none."""
        none = np.zeros(width, np.float32)
        if f"{attention}.q_bias" not in self._state:
            return np.concatenate((none, none, none))
        return np.concatenate((self[f"{attention}.q_bias"], none, self[f"{attention}.v_bias"]))


def unrolled_values(conv: Affine, grid: int) -> int:
    """How many values `unrolled` would have."""
    outputs, inputs = conv.weight.shape[:2]
    return int(grid**4 * outputs * inputs)


def unrolled(conv: Affine, groups: int, grid: int) -> Affine:
    """A grouped, padded convolution of a small grid as matrices.

    Weight [G, P·C_in/G, P·C_out/G] and bias [G, 1, P·C_out/G], for values laid out pixel by pixel.
    """
    channels, inputs, size, _ = conv.weight.shape
    outputs, pixels = channels // groups, grid * grid
    kernels = conv.weight.reshape(groups, outputs, inputs, size, size)
    matrix = np.zeros((groups, grid, grid, inputs, grid, grid, outputs), np.float32)
    for row, column, dy, dx in np.ndindex(grid, grid, size, size):
        y, x = row + dy - size // 2, column + dx - size // 2
        if 0 <= y < grid and 0 <= x < grid:
            matrix[:, y, x, :, row, column, :] = kernels[..., dy, dx].transpose(0, 2, 1)
    bias = np.broadcast_to(conv.bias.reshape(groups, 1, outputs), (groups, pixels, outputs))
    return Affine(
        matrix.reshape(groups, pixels * inputs, pixels * outputs), bias.reshape(groups, 1, pixels * outputs).copy()
    )
