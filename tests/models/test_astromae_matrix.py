"""The matrix form computes what the module computes: in numpy's terms once, in every engine's graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skyfan.engines.torch_graph import MatrixAstroMAE
from skyfan.models.astromae_matrix import Affine, grid_matrices, matrix_form
from skyfan.models.config import AstroMAEConfig
from tests.engines.support import CONFIG, inputs, lively_model

CONFIGS = {
    "small": CONFIG,
    "one group": replace(CONFIG, pcm_groups=1),
    "no bias of q and v": replace(CONFIG, qkv_bias=False),
    "other inputs": replace(CONFIG, channels=3, magnitudes=4),
    "patches of 4": replace(CONFIG, patch_size=4, pcm_groups=48),
    "published, two blocks": AstroMAEConfig(depth=2),
}


def state_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("max_matrix_values", [0, 2**30], ids=["convolutions", "matrices"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_matrix_form_is_the_module(config: AstroMAEConfig, max_matrix_values: int, dtype: torch.dtype) -> None:
    model = lively_model(config).to(dtype)
    values = [torch.from_numpy(tensor).to(dtype) for tensor in inputs(9, config=config)]
    name = str(dtype).removeprefix("torch.")
    form = matrix_form(state_of(model), config, dtype=name, max_matrix_values=max_matrix_values)
    with torch.inference_mode():
        expected, found = model(*values), MatrixAstroMAE(form)(*values)
    assert expected.std() > 0.01, "a model whose outputs are all alike would show nothing"
    assert found.dtype == dtype
    bound = 1e-6 if dtype == torch.float32 else 1e-12
    assert ((found - expected).abs() / expected.abs().clamp(min=1)).max() <= bound


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_convolution_written_out_as_matrices_is_the_convolution(groups: int) -> None:
    torch.manual_seed(groups)
    conv = nn.Conv2d(24, 48, 3, padding=1, groups=groups)
    image = torch.randn(5, 24, 4, 4)
    expected = conv(image).detach().numpy()
    found = grid_matrices(Affine(conv.weight.detach().numpy(), conv.bias.detach().numpy()), groups, grid=4)
    grids = image.numpy().reshape(5, groups, -1, 16).transpose(1, 0, 3, 2).reshape(groups, 5, -1)
    product = (grids @ found.weight + found.bias).reshape(groups, 5, 16, -1)
    np.testing.assert_allclose(product.transpose(1, 0, 3, 2).reshape(5, 48, 4, 4), expected, rtol=1e-4, atol=1e-5)
