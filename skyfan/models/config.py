"""The sizes of an AstroMAE, read from the shapes of its weights.

Nothing here imports torch, so that planners and reports can describe a model without loading it.
Architecture: AstroMAE, arXiv 2409.01825; the sizes of the published model are the defaults.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from skyfan.errors import ModelError
from skyfan.models.exporting.command import EXPORT_COMMAND
from skyfan.models.mixture import components_of, head_width

Shapes = Mapping[str, Sequence[int]]

# Positions of the five inception blocks and of the two linear layers in `inception_model.vis_inception`.
INCEPTION_POSITIONS = (2, 3, 5, 6, 8)
VIS_LINEAR_POSITIONS = (10, 12)
# Fields that no shape reveals: from the pickled module's attributes, from metadata, or the defaults.
UNSHAPED_FIELDS = ("num_heads", "norm_eps", "fc_norm_eps", "batch_norm_eps")


@dataclass(frozen=True)
class InceptionWidths:
    """Output channels of one inception block's convolutions."""

    branch1: int
    reduce3: int
    branch3x3: int
    reduce5: int
    branch5x5: int
    pool: int

    def out_channels(self, *, with_5x5: bool) -> int:
        """Channels that the block puts out; the last block of the model leaves its 5×5 branch out."""
        return self.branch1 + self.branch3x3 + self.pool + (self.branch5x5 if with_5x5 else 0)


def _reference_inception() -> tuple[InceptionWidths, ...]:
    return tuple(InceptionWidths(w, w, w, w, w, w) for w in (16, 16, 8, 8, 4))


@dataclass(frozen=True)
class AstroMAEConfig:
    """Sizes of an AstroMAE; the defaults are those of the published model (16 M parameters)."""

    image_size: int = 32
    channels: int = 5
    patch_size: int = 8
    embed_dim: int = 192
    depth: int = 12
    mlp_hidden: int = 768
    pcm_hidden: int = 768
    pcm_groups: int = 48
    qkv_bias: bool = True
    vit_hidden: int = 1096
    vit_out: int = 1096
    stem_channels: int = 32
    inception: tuple[InceptionWidths, ...] = field(default_factory=_reference_inception)
    vis_hidden: int = 1096
    vis_out: int = 1096
    magnitudes: int = 5
    magnitude_widths: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024)
    head_hidden: int = 1024
    mixture: int = 0
    """Components of p(z) that the head gives beside the redshift, see `models/mixture.py`; 0: none."""
    num_heads: int = 8
    norm_eps: float = 1e-6
    fc_norm_eps: float = 1e-6
    batch_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuses sizes that cannot be put together, in one sentence."""
        numbers = [
            self.depth,
            self.patch_size,
            self.channels,
            self.pcm_groups,
            self.num_heads,
            self.magnitudes,
        ]
        if min(numbers) < 1 or not self.magnitude_widths:
            raise ModelError("an AstroMAE needs at least one block, channel, head, group and magnitude layer.")
        if self.image_size % self.patch_size or self.image_size < 8:
            raise ModelError(
                f"the image size {self.image_size} must be at least 8 and a multiple of the patch size "
                f"{self.patch_size}."
            )
        for name, width in (("embedding width", self.embed_dim), ("convolution width", self.pcm_hidden)):
            if width % self.pcm_groups:
                raise ModelError(f"the {name} {width} is no multiple of the {self.pcm_groups} convolution groups.")
        if self.embed_dim % self.num_heads:
            raise ModelError(
                f"the embedding width {self.embed_dim} is no multiple of {self.num_heads} attention heads; "
                "give the right number with --heads when converting."
            )
        if len(self.inception) != len(INCEPTION_POSITIONS):
            raise ModelError(f"an AstroMAE has {len(INCEPTION_POSITIONS)} inception blocks, not {len(self.inception)}.")

    @property
    def head_width(self) -> int:
        """Values that the head gives for a sample."""
        return head_width(self.mixture)

    @property
    def grid_size(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def vis_features(self) -> int:
        """Values that the local branch flattens: channels of its last block × the thrice halved image."""
        side = self.image_size // 2 // 2 // 2
        return self.inception[-1].out_channels(with_5x5=False) * side * side

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class _ShapeReader:
    """Looks sizes up by weight name and says which one is missing or odd."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def __call__(self, name: str, dims: int) -> tuple[int, ...]:
        shape = self._shapes.get(name)
        if shape is None:
            raise ModelError(
                f"these are not the weights of an AstroMAE ({name} is missing); a model of another architecture is "
                f"exported once: {EXPORT_COMMAND.format(weights='CKPT')}."
            )
        if len(shape) != dims or 0 in shape:
            raise ModelError(f"the weight {name} has the shape {list(shape)} where {dims} dimensions were expected.")
        return tuple(int(size) for size in shape)

    def inception(self, position: int) -> InceptionWidths:
        base = f"inception_model.vis_inception.{position}"

        def width(conv: str) -> int:
            return self(f"{base}.{conv}.conv.weight", 4)[0]

        return InceptionWidths(
            branch1=width("branch1"),
            reduce3=width("branch2.0"),
            branch3x3=width("branch2.1"),
            reduce5=width("branch3.0"),
            branch5x5=width("branch3.1"),
            pool=width("branch4.1"),
        )


def _numbered(shapes: Shapes, prefix: str, suffix: str = "") -> list[int]:
    """The numbers n of all names `<prefix>.<n>.…<suffix>`, in order."""
    tails = (name[len(prefix) + 1 :] for name in shapes if name.startswith(f"{prefix}.") and name.endswith(suffix))
    return sorted({int(number) for tail in tails if (number := tail.partition(".")[0]).isdigit()})


def config_from_shapes(shapes: Shapes, **unshaped: float) -> AstroMAEConfig:
    """The configuration that the shapes of a state dict tell.

    `unshaped` may hold `UNSHAPED_FIELDS`, which no shape tells; the published model's values stand in
    for the others. Raises `ModelError` naming the first weight that is missing or has another rank.
    """
    read = _ShapeReader(shapes)
    embed_dim, channels, patch_size, _ = read("patch_embed.proj.weight", 4)
    grid = math.isqrt(read("pos_embed", 3)[1] - 1)
    blocks = _numbered(shapes, "blocks")
    pcm_hidden, pcm_width = read("blocks.0.PCM.0.weight", 4)[:2]
    magnitude = _numbered(shapes, "inception_model.magnitude_block", ".weight")
    widths = tuple(read(f"inception_model.magnitude_block.{n}.weight", 2)[0] for n in magnitude)
    first, second = (f"inception_model.vis_inception.{n}.weight" for n in VIS_LINEAR_POSITIONS)
    return AstroMAEConfig(
        image_size=grid * patch_size,
        channels=channels,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depth=len(blocks),
        mlp_hidden=read("blocks.0.mlp.fc1.weight", 2)[0],
        pcm_hidden=pcm_hidden,
        pcm_groups=max(1, embed_dim // pcm_width),
        qkv_bias="blocks.0.attn.q_bias" in shapes,
        vit_hidden=read("vit_block.0.weight", 2)[0],
        vit_out=read("vit_block.2.weight", 2)[0],
        stem_channels=read("inception_model.vis_inception.0.weight", 4)[0],
        inception=tuple(read.inception(n) for n in INCEPTION_POSITIONS),
        vis_hidden=read(first, 2)[0],
        vis_out=read(second, 2)[0],
        magnitudes=read("inception_model.magnitude_block.0.weight", 2)[1],
        magnitude_widths=widths,
        head_hidden=read("concat_block.0.weight", 2)[0],
        mixture=_components(read("concat_block.2.weight", 2)[0]),
        **_typed(unshaped),
    )


def _components(width: int) -> int:
    components = components_of(width)
    if components is None:
        raise ModelError(
            f"the last layer concat_block.2 gives {width} values, but a redshift is 1, and with a mixture of K normal "
            "distributions 1 + 3·K; export a model with another head with torch.export.save to a .pt2 file."
        )
    return components


def _typed(unshaped: Mapping[str, float]) -> dict[str, Any]:
    unknown = sorted(set(unshaped) - set(UNSHAPED_FIELDS))
    if unknown:
        raise ModelError(f"{unknown[0]!r} follows from the weights' shapes and cannot be set.")
    for name, value in unshaped.items():
        if not 0 < value < 2**31 or (name == "num_heads" and value != int(value)):  # NaN is not between them
            raise ModelError(f"{name} is {value!s:.20}, which no AstroMAE has.")
    return {name: int(value) if name == "num_heads" else float(value) for name, value in unshaped.items()}
