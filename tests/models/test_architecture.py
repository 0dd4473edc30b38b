"""The architecture is the published one: names, sizes, and the configuration read back from shapes."""

from dataclasses import replace

import pytest
import torch

from skyfan.errors import ModelError
from skyfan.models import AstroMAE, AstroMAEConfig, InceptionWidths, config_from_shapes
from skyfan.models.sizes import SMALL

pytestmark = pytest.mark.slow

# Weights of one block, with the shapes that the published sizes give for 48 groups.
BLOCK = {
    "norm1.weight": [192],
    "norm1.bias": [192],
    "attn.q_bias": [192],
    "attn.v_bias": [192],
    "attn.qkv.weight": [576, 192],
    "attn.proj.weight": [192, 192],
    "attn.proj.bias": [192],
    "norm2.weight": [192],
    "norm2.bias": [192],
    "mlp.fc1.weight": [768, 192],
    "mlp.fc1.bias": [768],
    "mlp.fc2.weight": [192, 768],
    "mlp.fc2.bias": [192],
    "PCM.0.weight": [768, 4, 3, 3],
    "PCM.0.bias": [768],
    "PCM.1.weight": [768],
    "PCM.1.bias": [768],
    "PCM.1.running_mean": [768],
    "PCM.1.running_var": [768],
    "PCM.1.num_batches_tracked": [],
    "PCM.3.weight": [192, 16, 3, 3],
    "PCM.3.bias": [192],
}
OUTSIDE = {
    "cls_token": [1, 1, 192],
    "pos_embed": [1, 17, 192],
    "fc_norm.weight": [192],
    "head.weight": [192, 192],
    "patch_embed.proj.weight": [192, 5, 8, 8],
    "vit_block.0.weight": [1096, 192],
    "vit_block.2.weight": [1096, 1096],
    "concat_block.0.weight": [1024, 3216],
    "concat_block.2.weight": [1, 1024],
    "inception_model.conv2d_init.weight": [32, 5, 1, 1],
    "inception_model.vis_inception.0.weight": [32, 5, 1, 1],
    "inception_model.vis_inception.2.branch3.1.conv.weight": [16, 16, 5, 5],
    "inception_model.vis_inception.8.branch3.1.conv.weight": [4, 4, 5, 5],
    "inception_model.vis_inception.10.weight": [1096, 192],
    "inception_model.vis_inception.12.weight": [1096, 1096],
    "inception_model.magnitude_block.0.weight": [1024, 5],
    "inception_model.magnitude_block.8.weight": [1024, 1024],
}


def _shapes(config: AstroMAEConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in AstroMAE(config).state_dict().items()}


def test_reference_sizes_have_the_published_names_and_shapes():
    shapes = _shapes(AstroMAEConfig())
    blocks = {f"blocks.{i}.{name}": tuple(shape) for i in range(12) for name, shape in BLOCK.items()}
    assert {name: shape for name, shape in shapes.items() if name.startswith("blocks.")} == blocks
    assert {name: list(shapes[name]) for name in OUTSIDE} == OUTSIDE
    assert len(shapes) == 508


def test_reference_sizes_have_sixteen_million_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in AstroMAE().parameters()) == 16_492_713


@pytest.mark.parametrize("groups", [192, 12, 8, 48])
def test_groups_are_read_from_the_shapes(groups: int):
    config = AstroMAEConfig(pcm_groups=groups, depth=1)
    assert config_from_shapes(_shapes(config)) == config


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, qkv_bias=False, magnitude_widths=(7,), channels=3, magnitudes=4),
        replace(SMALL, image_size=64, patch_size=16, inception=(InceptionWidths(1, 2, 3, 4, 5, 6),) * 5),
    ],
)
def test_every_size_is_read_from_the_shapes(config: AstroMAEConfig):
    told = {"num_heads": config.num_heads}
    assert config_from_shapes(_shapes(config), **told) == config


def test_small_model_maps_images_and_magnitudes_to_one_redshift_each():
    model = AstroMAE(SMALL).eval()
    assert model(torch.randn(3, 5, 32, 32), torch.randn(3, 5)).shape == (3, 1)


def test_samples_of_a_batch_do_not_influence_each_other():
    torch.manual_seed(0)
    model = AstroMAE(SMALL).eval()
    image, magnitude = torch.randn(4, 5, 32, 32), torch.randn(4, 5)
    with torch.inference_mode():
        torch.testing.assert_close(model(image, magnitude)[2:3], model(image[2:3], magnitude[2:3]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_heads": 7}, "no multiple of 7 attention heads"),
        ({"pcm_groups": 7}, "7 convolution groups"),
        ({"image_size": 33}, "image size 33"),
        ({"depth": 0}, "at least one block"),
    ],
)
def test_impossible_sizes_are_refused_in_one_sentence(change: dict[str, int], says: str):
    with pytest.raises(ModelError, match=says):
        replace(SMALL, **change)
