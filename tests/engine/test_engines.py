"""Engines give torch's answers, whatever the batch, and refuse what they cannot do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skyfan.engine import check, create_engine
from skyfan.engine.gemm_form import gemm_form
from skyfan.errors import BadInput, ModelError
from skyfan.models.astromae import AstroMAE
from skyfan.models.checkpoint import write_safetensors
from skyfan.models.loading import LoadedModel, load_model
from skyfan.models.sizes import SMALL
from skyfan.plan import RunOptions

pytest.importorskip("openvino")
CONFIG = replace(SMALL, depth=2)


def lively_model(seed: int = 0) -> AstroMAE:
    """Random weights, batch norms that do something, and outputs of the order of 1."""
    torch.manual_seed(seed)
    model = AstroMAE(CONFIG).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
            nn.init.normal_(module.weight, mean=1.0, std=0.2)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.concat_block[-1].weight.mul_(10)
    return model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    model = lively_model()
    path: Path = tmp_path_factory.mktemp("model") / "lively.safetensors"
    path.write_bytes(write_safetensors(model.state_dict(), model.config, {}))
    return load_model(str(path))


def inputs(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(count, 5, 32, 32)).astype(np.float32)
    return [image, (18 + rng.normal(size=(count, 5))).astype(np.float32)]


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_matrix_form_is_the_same_function(groups: int) -> None:
    torch.manual_seed(groups)
    model = AstroMAE(replace(CONFIG, pcm_groups=groups)).eval()
    image, magnitude = (torch.from_numpy(values) for values in inputs(3))
    with torch.inference_mode():
        expected = model(image, magnitude)
        torch.testing.assert_close(gemm_form(model)(image, magnitude), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_openvino_gives_torchs_answers_for_any_batch(loaded: LoadedModel, count: int) -> None:
    engine = create_engine(loaded, RunOptions(engine="openvino"), threads=2)
    reference = create_engine(loaded, RunOptions(engine="torch"), threads=2)
    expected = reference.predict(inputs(count))
    found = engine.predict(inputs(count))
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= 1e-4 * np.maximum(1, np.abs(expected))).all()


def test_record_says_what_ran(loaded: LoadedModel) -> None:
    info = create_engine(loaded, RunOptions(engine="openvino"), threads=1).info
    assert (info.name, info.precision, info.threads, info.reason) == ("openvino", "float32", 1, "asked for")
    assert info.deviation is not None
    assert 0 <= info.deviation["relative"] < 1e-4


def test_converted_model_that_deviates_is_refused(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match=r"deviates from torch by .*use --engine torch"):
        create_engine(loaded, RunOptions(engine="openvino"), threads=1)


def test_unknown_engine_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(BadInput, match="choose one of"):
        create_engine(loaded, RunOptions(engine="abacus"), threads=1)


def test_torch_has_no_reduced_precision(loaded: LoadedModel) -> None:
    with pytest.raises(BadInput, match="not available with the torch engine"):
        create_engine(loaded, RunOptions(engine="torch", precision="bf16"), threads=1)
