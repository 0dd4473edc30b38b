"""OpenVINO's graph of the matrix form computes what the module computes, for any sizes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from skyfan.engines.openvino_graph import GraphBuilder
from skyfan.models.astromae_matrix import matrix_form
from skyfan.models.config import AstroMAEConfig
from tests.engines.support import CONFIG, inputs, lively_model

pytest.importorskip("skyfan.engines.openvino_import")
CHANGES: list[dict[str, Any]] = [
    {},
    {"pcm_groups": 1},
    {"qkv_bias": False},
    {"channels": 3, "magnitudes": 4, "magnitude_widths": (24,)},
]


@pytest.mark.parametrize("bf16", [False, True], ids=["plain", "form for bf16"])
@pytest.mark.parametrize("max_matrix_values", [0, 2**30], ids=["convolutions", "matrices"])
@pytest.mark.parametrize("config", [*(replace(CONFIG, **c) for c in CHANGES), AstroMAEConfig(depth=2)])
def test_graph_is_the_module(config: AstroMAEConfig, max_matrix_values: int, *, bf16: bool) -> None:
    from skyfan.engines.openvino_import import openvino

    model = lively_model(config)
    state = {name: values.numpy() for name, values in model.state_dict().items()}
    builder = GraphBuilder(matrix_form(state, config, max_matrix_values=max_matrix_values), batch=9, bf16=bf16)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    values = inputs(9, config=config)
    found = openvino.Core().compile_model(builder.whole(), "CPU", settings)(values)[0]
    with torch.inference_mode():
        expected = model(*(torch.from_numpy(tensor) for tensor in values)).numpy()
    # the form for bf16 has a polynomial in place of an exponential
    assert (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max() <= (2e-4 if bf16 else 1e-6)


def test_the_exponential_is_replaced_by_less_than_bf16_rounds_off() -> None:
    from skyfan.engines.openvino_graph import polynomial_silu
    from skyfan.engines.openvino_import import openvino
    from skyfan.engines.openvino_import import opset13 as op

    x = np.linspace(-40, 40, 80001, dtype=np.float32)
    given = op.parameter([len(x)], np.float32)
    graph = openvino.Model([polynomial_silu(given)], [given], "silu")
    found = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    difference = np.abs(found - x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64))))
    assert difference[np.abs(x) <= 8].max() < 2.2e-4
    assert (difference / np.maximum(8, np.abs(x))).max() < 3.4e-4
