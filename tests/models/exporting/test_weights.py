"""Weights are found wherever people keep them, and what does not fit is named."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from skyfan.errors import ModelError
from skyfan.models.exporting.weights import load_weights

pytestmark = pytest.mark.slow


class Tied(nn.Module):
    """Two layers, the second with the weight of a third."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.third.weight = self.second.weight


def filled(seed):
    torch.manual_seed(seed)
    return Tied()


def same(module, other):
    return all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("prefix", ["", "model.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict"])
def test_a_checkpoint_of_a_trainer(tmp_path, prefix, key):
    weights = {prefix + name: values for name, values in filled(1).state_dict().items()}
    extra = {"criterion.weight": torch.ones(3)}
    torch.save({key: weights | extra, "epoch": 1} if key else weights | extra, tmp_path / "last.ckpt")
    module = filled(2)
    loaded = load_weights(module, str(tmp_path / "last.ckpt"))
    assert same(module, filled(1))
    assert (loaded.prefix, loaded.left_out) == (prefix, ("criterion.weight",))


def test_a_folder_of_shards_with_one_of_two_tied_weights(tmp_path):
    weights = {name: values.clone() for name, values in filled(1).state_dict().items() if name != "third.weight"}
    shards = {"a.safetensors": {}, "b.safetensors": {}}
    for at, name in enumerate(weights):
        shards[list(shards)[at % 2]][name] = weights[name].bfloat16()
    for file, held in shards.items():
        save_file(held, tmp_path / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    module = filled(2)
    load_weights(module, str(tmp_path))
    assert torch.equal(module.third.weight, filled(1).third.weight.bfloat16().float())
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks b\.safetensors"):
        load_weights(module, str(tmp_path))


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "w.pt"
    weights = filled(1).state_dict()
    torch.save({name: values for name, values in weights.items() if name != "first.bias"}, path)
    with pytest.raises(ModelError, match=r"lacks 1 of the module's 5 weights, such as first\.bias"):
        load_weights(filled(2), str(path))
    torch.save(weights | {"first.bias": torch.ones(5)}, path)
    with pytest.raises(ModelError, match=r"first\.bias has the shape \[5\], the module's \[4\]"):
        load_weights(filled(2), str(path))
    torch.save({f"{p}.{name}": values for p in ("student", "teacher") for name, values in weights.items()}, path)
    with pytest.raises(ModelError, match=r"the weights of 2 such models \(student\., teacher\.\)"):
        load_weights(filled(2), str(path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds none of"):
        load_weights(filled(2), str(tmp_path / "empty"))
