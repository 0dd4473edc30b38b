"""A head with p(z): every engine gives what the module gives, under the names that other parts rely on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skyfan.engines import create_engine
from skyfan.engines.torch_graph import MatrixAstroMAE
from skyfan.errors import ModelError
from skyfan.job import RunOptions
from skyfan.models.astromae import AstroMAE
from skyfan.models.astromae_matrix import matrix_form
from skyfan.models.config import config_from_shapes
from skyfan.models.loading import load_model
from skyfan.models.safetensors_files import model_bytes
from tests.models.support import TINY, inputs, tiny_model

pytestmark = pytest.mark.slow


def test_every_engine_gives_the_mixture_of_a_model_with_p_z(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = AstroMAE(replace(TINY, mixture=3)).eval()
    path = tmp_path / "mixture.safetensors"
    path.write_bytes(model_bytes(model, {}))
    loaded = load_model(str(path))
    assert loaded.config is not None
    assert loaded.config.mixture == 3
    images, magnitudes = inputs(70)
    with torch.inference_mode():
        expected = model(images, magnitudes).numpy()
    assert (expected[:, 4:7] > 0).all()
    np.testing.assert_allclose(expected[:, 7:].sum(1), 1, atol=1e-6)
    for name in ("torch", "openvino"):
        engine = create_engine(loaded, RunOptions(engine=name), threads=1)
        found = engine.predict([images.numpy(), magnitudes.numpy()])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert [(one.name, one.width) for one in engine.outputs(found.shape[1])] == [
            ("z_pred", 1), ("z_mean", 3), ("z_sigma", 3), ("z_weight", 3),
        ]  # fmt: skip
    matrix = MatrixAstroMAE(matrix_form(loaded.weights, loaded.config))
    with torch.inference_mode():
        torch.testing.assert_close(matrix(images, magnitudes), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_a_head_of_another_width_is_refused() -> None:
    shapes = {name: tuple(values.shape) for name, values in tiny_model().state_dict().items()}
    with pytest.raises(ModelError, match=r"concat_block\.2 gives 3 values"):
        config_from_shapes({**shapes, "concat_block.2.weight": (3, TINY.head_hidden)})
