"""The weights of an AstroMAE: their names and shapes, as `AstroMAE(config).state_dict()` has them, without torch.

So that a process that only runs an engine can check a file without importing torch, which takes longer than all
else that it does before its first prediction.
"""

from collections.abc import Iterator

from skyfan.models.config import INCEPTION_POSITIONS, VIS_LINEAR_POSITIONS, AstroMAEConfig, InceptionWidths

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]


def weight_shapes(config: AstroMAEConfig) -> dict[str, Shape]:
    """Name → shape of every weight and buffer; the stem, which published files hold twice, once."""
    width, patch = config.embed_dim, config.patch_size
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + config.grid_size**2, width),
        "patch_embed.proj.weight": (width, config.channels, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    shapes.update(_norm("fc_norm", width))
    shapes.update(_linear("head", width, width))
    for number in range(config.depth):
        shapes.update(_cell(f"blocks.{number}", config))
    shapes.update(_local_branches(config))
    shapes.update(_linear("vit_block.0", width, config.vit_hidden))
    shapes.update(_linear("vit_block.2", config.vit_hidden, config.vit_out))
    joined = config.vit_out + config.vis_out + config.magnitude_widths[-1]
    shapes.update(_linear("concat_block.0", joined, config.head_hidden))
    shapes.update(_linear("concat_block.2", config.head_hidden, config.head_width))
    return shapes


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _batch_norm(name: str, channels: int) -> Named:
    yield from _norm(name, channels)
    yield f"{name}.running_mean", (channels,)
    yield f"{name}.running_var", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _convolution(name: str, inputs: int, outputs: int, size: int) -> Named:
    yield f"{name}.weight", (outputs, inputs, size, size)
    yield f"{name}.bias", (outputs,)


def _cell(name: str, config: AstroMAEConfig) -> Named:
    width, hidden, groups = config.embed_dim, config.pcm_hidden, config.pcm_groups
    yield from _norm(f"{name}.norm1", width)
    yield from _linear(f"{name}.attn.qkv", width, 3 * width, bias=False)
    if config.qkv_bias:
        yield f"{name}.attn.q_bias", (width,)
        yield f"{name}.attn.v_bias", (width,)
    yield from _linear(f"{name}.attn.proj", width, width)
    yield from _norm(f"{name}.norm2", width)
    yield from _linear(f"{name}.mlp.fc1", width, config.mlp_hidden)
    yield from _linear(f"{name}.mlp.fc2", config.mlp_hidden, width)
    yield from _convolution(f"{name}.PCM.0", width // groups, hidden, 3)
    yield from _batch_norm(f"{name}.PCM.1", hidden)
    yield from _convolution(f"{name}.PCM.3", hidden // groups, width, 3)


def _local_branches(config: AstroMAEConfig) -> Named:
    vis, magnitude = "inception_model.vis_inception", "inception_model.magnitude_block"
    yield from _convolution(f"{vis}.0", config.channels, config.stem_channels, 1)
    channels, last = config.stem_channels, len(config.inception) - 1
    for number, (position, widths) in enumerate(zip(INCEPTION_POSITIONS, config.inception, strict=True)):
        yield from _inception(f"{vis}.{position}", channels, widths)
        channels = widths.out_channels(with_5x5=number != last)
    first, second = VIS_LINEAR_POSITIONS
    yield from _linear(f"{vis}.{first}", config.vis_features, config.vis_hidden)
    yield from _linear(f"{vis}.{second}", config.vis_hidden, config.vis_out)
    sizes = (config.magnitudes, *config.magnitude_widths)
    for number, inputs in enumerate(sizes[:-1]):
        yield from _linear(f"{magnitude}.{2 * number}", inputs, sizes[number + 1])


def _inception(name: str, channels: int, widths: InceptionWidths) -> Named:
    convolutions = (
        ("branch1", channels, widths.branch1, 1),
        ("branch2.0", channels, widths.reduce3, 1),
        ("branch2.1", widths.reduce3, widths.branch3x3, 3),
        ("branch3.0", channels, widths.reduce5, 1),
        ("branch3.1", widths.reduce5, widths.branch5x5, 5),
        ("branch4.1", channels, widths.pool, 1),
    )
    for part, inputs, outputs, size in convolutions:
        yield from _convolution(f"{name}.{part}.conv", inputs, outputs, size)
        yield from _batch_norm(f"{name}.{part}.bn", outputs)
