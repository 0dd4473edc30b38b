"""AstroMAE as an OpenVINO graph, built from its weights operation by operation.

Building takes a tenth of the time of tracing and converting the torch module, needs no torch, and leaves the
choice of form to us: see `weights`. Every matrix product whose precision may be reduced goes through `_linear`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.engines.openvino_import import openvino
from skyfan.engines.openvino_import import opset13 as op
from skyfan.engines.weights import MAX_UNROLLED_VALUES, Affine, Array, Weights, unrolled, unrolled_values
from skyfan.models.config import INCEPTION_POSITIONS, VIS_LINEAR_POSITIONS, AstroMAEConfig

Node = Any
# Range of the values that go into each matrix product of the transformer's blocks, by its name.
Ranges = dict[str, tuple[float, float]]
_WEIGHT_LEVELS, _ACTIVATION_LEVELS = 255, 256


@dataclass
class AstroMAEGraph:
    """Builds the graphs of one model for micro-batches of `batch` samples.

    With `ranges`, matrix products of the transformer's blocks are computed in int8 between those ranges;
    with `tap`, their inputs are outputs of the graph, so that the ranges can be measured.
    """

    weights: Weights
    config: AstroMAEConfig
    batch: int
    ranges: Ranges | None = None
    tap: bool = False
    taps: dict[str, Node] = field(default_factory=dict)

    def whole(self) -> openvino.Model:
        """(image, magnitude) → redshift [B, 1], and the taps."""
        image, magnitude = self._inputs()
        tokens, local = self._before(image, magnitude)
        redshift = self._after(self._middle(tokens), local)
        return openvino.Model([redshift, *self.taps.values()], [image, magnitude], "astromae")

    def before(self) -> openvino.Model:
        """(image, magnitude) → tokens [B, 1 + P, D], values of the local branches [B, L]."""
        image, magnitude = self._inputs()
        return openvino.Model(list(self._before(image, magnitude)), [image, magnitude], "before")

    def middle(self) -> openvino.Model:
        """The transformer's blocks: tokens → mean over the patches [B, D]."""
        tokens = _parameter([self.batch, 1 + self.config.grid_size**2, self.config.embed_dim])
        return openvino.Model([self._middle(tokens)], [tokens], "middle")

    def after(self) -> openvino.Model:
        """(mean over the patches, values of the local branches) → redshift [B, 1]."""
        pooled = _parameter([self.batch, self.config.embed_dim])
        local = _parameter([self.batch, self.config.vis_out + self.config.magnitude_widths[-1]])
        return openvino.Model([self._after(pooled, local)], [pooled, local], "after")

    def _inputs(self) -> tuple[Node, Node]:
        config = self.config
        image = _parameter([self.batch, config.channels, config.image_size, config.image_size])
        return image, _parameter([self.batch, config.magnitudes])

    def _before(self, image: Node, magnitude: Node) -> tuple[Node, Node]:
        patches = _convolution(image, self.weights.affine("patch_embed.proj"), stride=self.config.patch_size)
        patches = op.transpose(_reshape(patches, [self.batch, self.config.embed_dim, -1]), [0, 2, 1])
        cls_token = np.broadcast_to(self.weights["cls_token"], (self.batch, 1, self.config.embed_dim))
        tokens = op.add(op.concat([_constant(cls_token), patches], 1), _constant(self.weights["pos_embed"]))
        return tokens, op.concat([self._image_branch(image), self._magnitude_branch(magnitude)], 1)

    def _image_branch(self, image: Node) -> Node:
        # Pooling and a 1×1 convolution are both linear: pooled first, a quarter of the pixels is convolved.
        name = "inception_model.vis_inception"
        x = _convolution(_half(image), self.weights.affine(f"{name}.0"))
        last = len(INCEPTION_POSITIONS) - 1
        for number, position in enumerate(INCEPTION_POSITIONS):
            x = self._inception(x, f"{name}.{position}", use_5x5=number != last)
            x = _half(x) if number % 2 else x
        first, second = (self.weights.affine(f"{name}.{position}") for position in VIS_LINEAR_POSITIONS)
        return _affine(op.relu(_affine(_reshape(x, [self.batch, -1]), first)), second)

    def _inception(self, x: Node, name: str, *, use_5x5: bool) -> Node:
        branches = ["branch2", "branch3"] if use_5x5 else ["branch2"]
        heads = [f"{name}.branch1", *(f"{name}.{branch}.0" for branch in branches)]
        widths = [self.weights[f"{head}.conv.weight"].shape[0] for head in heads]
        parts = _convolution(x, self.weights.folded_all(heads))
        direct, *narrow = op.variadic_split(op.relu(parts), 1, widths).outputs()
        outputs = [direct]
        for branch, part in zip(branches, narrow, strict=True):
            outputs.append(op.relu(_convolution(part, self.weights.folded_all([f"{name}.{branch}.1"]))))
        pooled = op.max_pool(x, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        outputs.append(op.relu(_convolution(pooled, self.weights.folded_all([f"{name}.branch4.1"]))))
        return op.concat(outputs, 1)

    def _magnitude_branch(self, x: Node) -> Node:
        count = len(self.config.magnitude_widths)
        return self._perceptron(x, [f"inception_model.magnitude_block.{2 * layer}" for layer in range(count)])

    def _perceptron(self, x: Node, names: Sequence[str]) -> Node:
        for name in names[:-1]:
            x = op.relu(_affine(x, self.weights.affine(name)))
        return _affine(x, self.weights.affine(names[-1]))

    def _middle(self, tokens: Node) -> Node:
        for number in range(self.config.depth):
            tokens = self._cell(tokens, f"blocks.{number}")
        return op.reduce_mean(_patches(tokens), [1])

    def _cell(self, tokens: Node, name: str) -> Node:
        eps = self.config.norm_eps
        local = self._pcm(_patches(tokens), name)
        attended = self._attention(self._norm(tokens, f"{name}.norm1", eps), f"{name}.attn")
        padded = op.pad(local, [0, 1, 0], [0, 0, 0], "constant", np.float32(0))
        tokens = op.add(op.add(tokens, attended), padded)
        hidden = self._linear(self._norm(tokens, f"{name}.norm2", eps), f"{name}.mlp.fc1")
        return op.add(tokens, self._linear(op.gelu(hidden, "erf"), f"{name}.mlp.fc2"))

    def _attention(self, tokens: Node, name: str) -> Node:
        batch, width, heads = self.batch, self.config.embed_dim, self.config.num_heads
        bias = self.weights.qkv_bias(name, width)
        qkv = self._linear(tokens, f"{name}.qkv", Affine(self.weights[f"{name}.qkv.weight"], bias))
        split = op.transpose(_reshape(qkv, [batch, -1, 3, heads, width // heads]), [2, 0, 3, 1, 4])
        q, k, v = (op.squeeze(part, [0]) for part in op.split(split, 0, 3).outputs())
        attended = op.scaled_dot_product_attention(q, k, v)
        return self._linear(_reshape(op.transpose(attended, [0, 2, 1, 3]), [batch, -1, width]), f"{name}.proj")

    def _pcm(self, patches: Node, name: str) -> Node:
        grid, groups, width, batch = self.config.grid_size, self.config.pcm_groups, self.config.embed_dim, self.batch
        widen = self.weights.folded(f"{name}.PCM.0", f"{name}.PCM.1")
        narrow = self.weights.affine(f"{name}.PCM.3")
        if unrolled_values(widen, grid) > MAX_UNROLLED_VALUES:
            x = _reshape(op.transpose(patches, [0, 2, 1]), [batch, width, grid, grid])
            x = _group_convolution(op.swish(_group_convolution(x, widen, groups)), narrow, groups)
            return op.transpose(_reshape(x, [batch, width, -1]), [0, 2, 1])
        grouped = op.transpose(_reshape(patches, [batch, -1, groups, width // groups]), [2, 0, 1, 3])
        hidden = self._grid(_reshape(grouped, [groups, batch, -1]), f"{name}.PCM.0", unrolled(widen, groups, grid))
        out = self._grid(op.swish(hidden), f"{name}.PCM.3", unrolled(narrow, groups, grid))
        out = op.transpose(_reshape(out, [groups, batch, -1, width // groups]), [1, 2, 0, 3])
        return _reshape(out, [batch, -1, width])

    def _grid(self, x: Node, name: str, affine: Affine) -> Node:
        if self.ranges is not None:
            x = _quantised(x, self.ranges[name])
        self._tap(x, name)
        weight = _quantised_weight(affine.weight, axis=1) if self.ranges is not None else _constant(affine.weight)
        return op.add(op.matmul(x, weight, transpose_a=False, transpose_b=False), _constant(affine.bias))

    def _linear(self, x: Node, name: str, affine: Affine | None = None) -> Node:
        affine = affine or self.weights.affine(name)
        self._tap(x, name)
        if self.ranges is None:
            return _affine(x, affine)
        product = op.matmul(_quantised(x, self.ranges[name]), _quantised_weight(affine.weight, axis=1), False, True)
        return op.add(product, _constant(affine.bias))

    def _tap(self, x: Node, name: str) -> None:
        if self.tap:
            self.taps[name] = x

    def _norm(self, x: Node, name: str, eps: float) -> Node:
        normed = op.mvn(x, [-1], normalize_variance=True, eps=eps, eps_mode="inside_sqrt")
        affine = self.weights.affine(name)
        return op.add(op.multiply(normed, _constant(affine.weight)), _constant(affine.bias))

    def _after(self, pooled: Node, local: Node) -> Node:
        pooled = self._norm(pooled, "fc_norm", self.config.fc_norm_eps)
        image = self._perceptron(_affine(pooled, self.weights.affine("head")), ["vit_block.0", "vit_block.2"])
        return self._perceptron(op.concat([image, local], 1), ["concat_block.0", "concat_block.2"])


def _parameter(shape: list[int]) -> Node:
    return op.parameter(shape, np.float32)


def _constant(values: NDArray[np.float32]) -> Node:
    # Shared, not copied: weights are large, and the graph is dropped as soon as it is compiled.
    return op.constant(np.ascontiguousarray(values, np.float32), shared_memory=True)


def _reshape(x: Node, shape: list[int]) -> Node:
    return op.reshape(x, shape, special_zero=False)


def _patches(tokens: Node) -> Node:
    """All tokens but the first."""
    return op.slice(tokens, [1], [np.iinfo(np.int64).max], [1], [1])


def _half(x: Node) -> Node:
    return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _affine(x: Node, affine: Affine) -> Node:
    product = op.matmul(x, _constant(affine.weight), transpose_a=False, transpose_b=True)
    return op.add(product, _constant(affine.bias))


def _convolution(x: Node, conv: Affine, stride: int = 1) -> Node:
    pad = 0 if stride > 1 else conv.weight.shape[-1] // 2
    out = op.convolution(x, _constant(conv.weight), [stride] * 2, [pad] * 2, [pad] * 2, [1, 1])
    return op.add(out, _constant(conv.bias.reshape(1, -1, 1, 1)))


def _group_convolution(x: Node, conv: Affine, groups: int) -> Node:
    channels, inputs, size, _ = conv.weight.shape
    weight = _constant(conv.weight.reshape(groups, channels // groups, inputs, size, size))
    out = op.group_convolution(x, weight, [1, 1], [size // 2] * 2, [size // 2] * 2, [1, 1])
    return op.add(out, _constant(conv.bias.reshape(1, -1, 1, 1)))


def _quantised(x: Node, limits: tuple[float, float]) -> Node:
    """Rounds to 256 levels; symmetric where values are of both signs, as integer products need no offsets then."""
    low, high = limits
    if low < 0:
        reach = max(-low, high * 128 / 127)
        low, high = -reach, reach * 127 / 128
    low32, high32 = np.float32(low), np.float32(high)
    return op.fake_quantize(x, low32, high32, low32, high32, _ACTIVATION_LEVELS)


def _quantised_weight(weight: Array, axis: int) -> Node:
    """Rounds to 255 levels, symmetric, with a scale for every output."""
    reach = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), np.float32(1e-12))
    return op.fake_quantize(_constant(weight), -reach, reach, -reach, reach, _WEIGHT_LEVELS)
