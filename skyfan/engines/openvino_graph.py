"""AstroMAE as an OpenVINO graph, built from its weights operation by operation.

Building takes a tenth of the time of tracing and converting the torch module, needs no torch, and leaves the
choice of form to us: see `models/astromae_matrix.py`. Every product whose precision may be reduced goes through
`_linear` or `_grid`.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skyfan.engines.openvino_import import openvino
from skyfan.engines.openvino_import import opset13 as op
from skyfan.models.astromae_matrix import Affine, Array, CellForm, InceptionForm, MatrixForm
from skyfan.models.config import AstroMAEConfig

Node = Any
# Range of the values that go into each matrix product of the transformer's blocks, by its name.
Ranges = dict[str, tuple[float, float]]
# A tile of AMX holds 32 values of bf16 a row; heads are filled up to that where it adds at most a half.
_BF16_DEPTH, _MAX_WIDENING = 32, 1.5
# 1/(1 + e⁻ˣ) ≈ ½ + x · Σ aₙ sⁿ with s = 2(x/8)² − 1 for |x| ≤ 8: a minimax fit of SiLU, within 2.1e-4.
_SIGMOID_LIMIT = 8.0
_SIGMOID = (0.087777, -0.0422173, 0.0289705, -0.020061, 0.017694, -0.0225557, 0.0087681, 0.0167657, -0.00144404,
            -0.0253011, 0.0140653)  # fmt: skip
_WEIGHT_LEVELS, _ACTIVATION_LEVELS = 255, 256


@dataclass
class GraphBuilder:
    """Builds the graphs of one model for micro-batches of `batch` samples.

    With `ranges`, matrix products of the transformer's blocks are computed in int8 between those ranges;
    with `tap`, their inputs are outputs of the graph, so that the ranges can be measured. `bf16`: the same function in
    the form that products in bf16 are fast in.
    """

    form: MatrixForm
    batch: int
    ranges: Ranges | None = None
    bf16: bool = False
    tap: bool = False
    taps: dict[str, Node] = field(default_factory=dict)

    @property
    def config(self) -> AstroMAEConfig:
        """The sizes of the model."""
        return self.form.config

    def whole(self) -> openvino.Model:
        """(image, magnitude) → redshift [B, 1], or with p(z) [B, 1 + 3·K], and the taps."""
        image, magnitude = self._image(), _parameter([self.batch, self.config.magnitudes])
        redshift = self._head(*self._from_image(image), magnitude)
        return openvino.Model([redshift, *self.taps.values()], [image, magnitude], "astromae")

    def from_image(self) -> openvino.Model:
        """All that comes from the image: image → mean over the patches [B, D], values of its local branch [B, L]."""
        image = self._image()
        return openvino.Model(list(self._from_image(image)), [image], "from_image")

    def head(self) -> openvino.Model:
        """(what `from_image` gives, magnitude) → as `whole`."""
        config = self.config
        local = config.vis_hidden if self.bf16 else config.vis_out
        inputs = [_parameter([self.batch, width]) for width in (config.embed_dim, local, config.magnitudes)]
        return openvino.Model([self._head(*inputs)], inputs, "head")

    def _image(self) -> Node:
        config = self.config
        return _parameter([self.batch, config.channels, config.image_size, config.image_size])

    def _from_image(self, image: Node) -> tuple[Node, Node]:
        tokens = self._tokens(image)
        for number, cell in enumerate(self.form.cells):
            tokens = self._cell(tokens, cell, f"blocks.{number}")
        return op.reduce_mean(_patches(tokens), [1]), self._image_branch(image)

    def _tokens(self, image: Node) -> Node:
        config, form = self.config, self.form
        # As a convolution: cutting the image into patches by transposing it takes longer than the products do.
        weight = form.patches.weight.reshape(config.embed_dim, config.channels, config.patch_size, config.patch_size)
        patches = op.convolution(image, _constant(weight), [config.patch_size] * 2, [0, 0], [0, 0], [1, 1])
        patches = op.transpose(_reshape(patches, [self.batch, config.embed_dim, -1]), [0, 2, 1])
        first = np.broadcast_to(form.first_token, (self.batch, 1, config.embed_dim))
        return op.concat([_constant(first), op.add(patches, _constant(form.patches.bias))], 1)

    def _image_branch(self, image: Node) -> Node:
        x = _convolution(_half(image), self.form.stem)
        for number, block in enumerate(self.form.inception):
            x = _inception(x, block)
            x = _half(x) if number % 2 else x
        return self._branch(_reshape(x, [self.batch, -1]), self.form.vis)

    def _cell(self, tokens: Node, cell: CellForm, name: str) -> Node:
        eps = self.config.norm_eps
        local = self._grid_products(tokens, cell, name) if cell.as_matrices else self._grid_convolutions(tokens, cell)
        attended = self._attention(_norm(tokens, cell.norm1, eps), cell, f"{name}.attn")
        tokens = op.add(op.add(tokens, attended), local)
        hidden = self._linear(_norm(tokens, cell.norm2, eps), cell.fc1, f"{name}.mlp.fc1")
        return op.add(tokens, self._linear(op.gelu(hidden, "erf"), cell.fc2, f"{name}.mlp.fc2"))

    def _attention(self, tokens: Node, cell: CellForm, name: str) -> Node:
        # q, k and v one by one: cutting one product's result apart takes 6% of all in bf16 (benchmarks/NOTES.md).
        batch, heads, parts, proj = self.batch, self.config.num_heads, list(_rows(cell.qkv, 3)), cell.proj
        depth = self.config.embed_dim // heads
        if self.bf16:
            parts[0] = Affine(parts[0].weight * depth**-0.5, parts[0].bias * depth**-0.5)
            if (wider := -(-depth // _BF16_DEPTH) * _BF16_DEPTH) <= _MAX_WIDENING * depth:
                parts, proj = (
                    [_padded_outputs(part, heads, wider) for part in parts],
                    _padded_inputs(proj, heads, wider),
                )
                depth = wider
        q, k, v = (
            op.transpose(_reshape(self._linear(tokens, part, f"{name}.qkv"), [batch, -1, heads, depth]), [0, 2, 1, 3])
            for part in parts
        )
        attended = _attended_bf16(q, k, v) if self.bf16 else op.scaled_dot_product_attention(q, k, v)
        joined = _reshape(op.transpose(attended, [0, 2, 1, 3]), [batch, -1, heads * depth])
        return self._linear(joined, proj, f"{name}.proj")

    def _grid_products(self, tokens: Node, cell: CellForm, name: str) -> Node:
        """PCM of tokens [B, 1 + P, D], as many; zero for the class token."""
        groups, width, batch = self.config.pcm_groups, self.config.embed_dim, self.batch
        patches, depth = self.config.grid_size**2, width // groups
        # Gathering a group's few channels, pixel by pixel, takes half of the time of transposing them.
        by_group = _gathered(tokens, self._by_group, depth)
        hidden = self._grid(_reshape(by_group, [groups, batch, -1]), cell.widen.weight, f"{name}.PCM.0")
        hidden = self._silu(op.add(hidden, _constant(cell.widen.bias)))
        out = self._grid(hidden, cell.narrow.weight, f"{name}.PCM.3")
        # Back again too in bf16; in float32 that gains 1% and takes 0.1 s more to compile.
        if self.bf16:
            out = _gathered(out, self._by_sample, depth)
        else:
            out = op.transpose(_reshape(out, [groups, batch, -1, depth]), [1, 2, 0, 3])
        out = _reshape(out, [batch, -1, width])
        # A channel's bias is the same for every pixel, and added here together with the tokens.
        bias = np.zeros((1, 1 + patches, width), np.float32)
        bias[:, 1:] = cell.narrow.bias.reshape(groups, patches, depth)[:, 0].reshape(-1)
        return op.add(_below_class_token(out), _constant(bias))

    @functools.cached_property
    def _by_group(self) -> Node:
        """Of the pieces that tokens [B, 1 + P, G · C/G] consist of, those that [G, B, P] does, in its order."""
        batch, patches, groups = self.batch, self.config.grid_size**2, self.config.pcm_groups
        pieces = np.arange(batch * (1 + patches) * groups, dtype=np.int32).reshape(batch, 1 + patches, groups)
        return op.constant(pieces[:, 1:].transpose(2, 0, 1).reshape(-1))

    @functools.cached_property
    def _by_sample(self) -> Node:
        """The pieces of [G, B, P] in the order of [B, P, G]."""
        batch, patches, groups = self.batch, self.config.grid_size**2, self.config.pcm_groups
        pieces = np.arange(groups * batch * patches, dtype=np.int32).reshape(groups, batch, patches)
        return op.constant(pieces.transpose(1, 2, 0).reshape(-1))

    def _grid_convolutions(self, tokens: Node, cell: CellForm) -> Node:
        grid, groups, width, batch = self.config.grid_size, self.config.pcm_groups, self.config.embed_dim, self.batch
        x = _reshape(op.transpose(_patches(tokens), [0, 2, 1]), [batch, width, grid, grid])
        x = _group_convolution(self._silu(_group_convolution(x, cell.widen, groups)), cell.narrow, groups)
        return _below_class_token(op.transpose(_reshape(x, [batch, width, -1]), [0, 2, 1]))

    def _silu(self, x: Node) -> Node:
        return polynomial_silu(x) if self.bf16 else op.swish(x)

    def _grid(self, x: Node, weight: Array, name: str) -> Node:
        self._tap(x, name)
        if self.ranges is None:
            return op.matmul(x, _constant(weight), transpose_a=False, transpose_b=False)
        return op.matmul(_quantised(x, self.ranges[name]), _quantised_weight(weight), False, False)

    def _linear(self, x: Node, affine: Affine, name: str) -> Node:
        self._tap(x, name)
        if self.ranges is None:
            return _affine(x, affine)
        product = op.matmul(_quantised(x, self.ranges[name]), _quantised_weight(affine.weight), False, True)
        return op.add(product, _constant(affine.bias))

    def _tap(self, x: Node, name: str) -> None:
        if self.tap:
            self.taps[name] = x

    def _head(self, pooled: Node, local: Node, magnitude: Node) -> Node:
        form = self.form
        pooled = _affine(_norm(pooled, form.fc_norm, self.config.fc_norm_eps), form.vit[0])
        branches = [self._branch(pooled, form.vit[1:]), local, self._branch(magnitude, form.magnitude)]
        hidden = op.relu(_affine(op.concat(branches, 1), self._first_joined()))
        return _mixture(_affine(hidden, form.joined[1]), self.config.mixture)

    def _branch(self, x: Node, layers: Sequence[Affine]) -> Node:
        """A perceptron; in bf16's form without its last layer, which is in `_first_joined` then."""
        x = _hidden(x, layers[:-1])
        return x if self.bf16 else _affine(x, layers[-1])

    def _first_joined(self) -> Affine:
        """The head's first layer; in bf16's form with the last layers of the branches, which are linear too.

        Products of 1,100 × 1,100: 0.1 s at the start, and 6% less time for each sample (benchmarks/NOTES.md, 10).
        """
        first = self.form.joined[0]
        if not self.bf16:
            return first
        last = [layers[-1] for layers in (self.form.vit, self.form.vis, self.form.magnitude)]
        parts = np.split(first.weight, np.cumsum([len(layer.bias) for layer in last])[:-1], axis=1)
        weights = [part @ layer.weight for part, layer in zip(parts, last, strict=True)]
        bias = first.weight @ np.concatenate([layer.bias for layer in last]) + first.bias
        return Affine(np.concatenate(weights, 1), bias)


def largest_product(size: int) -> openvino.Model:
    """Values × ones, both [size, size] and in int8 of 0 or −1 to 1: where the values are ones, the largest sums are."""
    x = _parameter([size, size])
    ones = _quantised_weight(np.ones((size, size), np.float32))
    return openvino.Model([op.matmul(_quantised(x, (0.0, 1.0)), ones, False, True)], [x], "largest_product")


def _rows(affine: Affine, parts: int) -> Iterator[Affine]:
    """A linear layer as `parts` of equal width."""
    return map(Affine, np.split(affine.weight, parts), np.split(affine.bias, parts))


def _padded_outputs(affine: Affine, heads: int, depth: int) -> Affine:
    """A linear layer whose outputs, those of `heads` heads, are filled up with zeros to `depth` a head."""
    extra = depth - len(affine.bias) // heads
    weight = np.pad(affine.weight.reshape(heads, depth - extra, -1), ((0, 0), (0, extra), (0, 0)))
    bias = np.pad(affine.bias.reshape(heads, -1), ((0, 0), (0, extra)))
    return Affine(weight.reshape(heads * depth, -1), bias.reshape(-1))


def _padded_inputs(affine: Affine, heads: int, depth: int) -> Affine:
    """A linear layer that takes such outputs."""
    weight = affine.weight.reshape(len(affine.bias), heads, -1)
    weight = np.pad(weight, ((0, 0), (0, 0), (0, depth - weight.shape[2])))
    return Affine(weight.reshape(len(affine.bias), -1), affine.bias)


def _attended_bf16(q: Node, k: Node, v: Node) -> Node:
    """Attention of scaled queries [B, heads, N, depth], scores as keys × queries.

    OpenVINO fuses the usual form, queries × keys, into one kernel, which is slow in bf16 for short sequences: with it
    a block takes a quarter longer (benchmarks/NOTES.md, section 10).
    """
    weights = op.softmax(op.matmul(k, q, transpose_a=False, transpose_b=True), 2)
    return op.matmul(weights, v, transpose_a=True, transpose_b=False)


def polynomial_silu(x: Node) -> Node:
    """x/(1 + e⁻ˣ) within 2.1e-4 up to 8, and 3.4e-4 · |x| beyond: less than bf16 rounds off of x itself."""
    limited = op.clamp(x, -_SIGMOID_LIMIT, _SIGMOID_LIMIT)
    square = op.multiply(op.multiply(limited, limited), np.float32(2 / _SIGMOID_LIMIT**2))
    square = op.subtract(square, np.float32(1))
    total, *factors = map(np.float32, reversed(_SIGMOID))
    for factor in factors:
        total = op.add(op.multiply(square, total), factor)
    return op.multiply(x, op.add(op.multiply(limited, total), np.float32(0.5)))


def _inception(x: Node, block: InceptionForm) -> Node:
    parts = op.relu(_convolution(x, block.entry))
    direct, *narrow = op.variadic_split(parts, 1, list(block.entry_widths)).outputs()
    outputs = [op.relu(_convolution(part, conv)) for part, conv in zip(narrow, block.spatial, strict=True)]
    pooled = op.max_pool(x, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    return op.concat([direct, *outputs, op.relu(_convolution(pooled, block.pooled))], 1)


def _hidden(x: Node, layers: Sequence[Affine]) -> Node:
    for layer in layers:
        x = op.relu(_affine(x, layer))
    return x


def _mixture(raw: Node, components: int) -> Node:
    """What `models.astromae.mixture_outputs` does."""
    if not components:
        return raw
    linear, log_sigma, logits = op.variadic_split(raw, 1, [1 + components, components, components]).outputs()
    return op.concat([linear, op.exp(log_sigma), op.softmax(logits, 1)], 1)


def _norm(x: Node, affine: Affine, eps: float) -> Node:
    normed = op.mvn(x, [-1], normalize_variance=True, eps=eps, eps_mode="inside_sqrt")
    return op.add(op.multiply(normed, _constant(affine.weight)), _constant(affine.bias))


def _parameter(shape: list[int]) -> Node:
    return op.parameter(shape, np.float32)


def _constant(values: Array) -> Node:
    # Shared, not copied: weights are large, and the graph is dropped as soon as it is compiled.
    return op.constant(np.ascontiguousarray(values, np.float32), shared_memory=True)


def _reshape(x: Node, shape: list[int]) -> Node:
    return op.reshape(x, shape, special_zero=False)


def _patches(tokens: Node) -> Node:
    """All tokens but the first."""
    return op.slice(tokens, [1], [np.iinfo(np.int64).max], [1], [1])


def _below_class_token(patches: Node) -> Node:
    """[B, P, D] → [B, 1 + P, D], zero for the class token."""
    return op.pad(patches, [0, 1, 0], [0, 0, 0], "constant", np.float32(0))


def _gathered(x: Node, order: Node, width: int) -> Node:
    """Pieces of `width` values, in the order of their numbers in `order`."""
    return op.gather(_reshape(x, [-1, width]), order, np.int32(0))


def _half(x: Node) -> Node:
    return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _affine(x: Node, affine: Affine) -> Node:
    product = op.matmul(x, _constant(affine.weight), transpose_a=False, transpose_b=True)
    return op.add(product, _constant(affine.bias))


def _convolution(x: Node, conv: Affine) -> Node:
    pad = [conv.weight.shape[-1] // 2] * 2
    out = op.convolution(x, _constant(conv.weight), [1, 1], pad, pad, [1, 1])
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


def _quantised_weight(weight: Array) -> Node:
    """Rounds to 255 levels, symmetric, with a scale for every output; inputs are dimension 1."""
    reach = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.float32(1e-12))
    return op.fake_quantize(_constant(weight), -reach, reach, -reach, reach, _WEIGHT_LEVELS)
