"""Checkpoints as trainers write them, and as somebody writes them who means harm."""

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import io
import pathlib
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_safetensors

from skyfan.errors import ModelError
from skyfan.models import load_model
from skyfan.models.checkpoint import LEFT_OUT_KEY, METADATA_KEY
from skyfan.models.safetensors_files import model_bytes
from tests.models.support import TINY, saved, tiny_model

# No shape tells the number of heads, so that it is the default.
CONFIG = dataclasses.replace(TINY, num_heads=8)


def weights(prefix=""):
    return collections.OrderedDict((prefix + name, value) for name, value in tiny_model().state_dict().items())


def loaded(content, tmp_path):
    data = content if isinstance(content, bytes) else saved(content)
    (tmp_path / "m.ckpt").write_bytes(data)
    return load_model(str(tmp_path / "m.ckpt"))


def refusal(content, tmp_path):
    with pytest.raises(ModelError) as caught:
        loaded(content, tmp_path)
    assert str(caught.value).isprintable()
    return str(caught.value)


class Colour(enum.Enum):
    RED = 1


class Callback:
    def __init__(self):
        self.best = torch.tensor(0.3)


BESIDE = {
    "numpy scalars": {"best": np.float64(0.3), "count": np.int64(3)},
    "numpy array": np.arange(4),
    "namespace": argparse.Namespace(lr=1e-3, layers=[1, 2]),
    "path": pathlib.PurePosixPath("/x"),
    "partial": functools.partial(torch.optim.AdamW, lr=1e-3),
    "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "callback": {"x": Callback()},
    "device and dtype": {"device": torch.device("cuda:0"), "dtype": torch.bfloat16},
    "functions": {"loss": torch.nn.functional.mse_loss, "act": torch.nn.GELU},
    "generators": {"numpy": np.random.get_state(), "torch": torch.get_rng_state()},  # noqa: NPY002 (as trainers do)
    "generator with 128-bit numbers": np.random.default_rng(1).bit_generator.state,
    "optimiser": torch.optim.AdamW([torch.nn.Parameter(torch.rand(3))]).state_dict(),
    "keys of all kinds": {(1, 2): 3, 1.5: 4, 7: 8},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_a_trainer_keeps_beside_the_weights_does_not_matter(beside, tmp_path):
    model = loaded({"epoch": 3, "extra": beside, "state_dict": weights("model.")}, tmp_path)
    assert model.config == CONFIG


def test_an_enum_is_made_by_a_call_and_refused(tmp_path):
    assert "would run tests.models.test_checkpoints.Colour when loaded" in refusal(
        {"colour": Colour.RED, "state_dict": weights()}, tmp_path
    )


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "_orig_mod.", "net.encoder.", "model._orig_mod.module."])
@pytest.mark.parametrize("key", [None, "state_dict", "weights", "model"])
def test_prefixes_of_wrappers_are_taken_off(prefix, key, tmp_path):
    state = weights(prefix)
    assert loaded({key: state} if key else state, tmp_path).config == CONFIG


def test_losses_and_metrics_beside_the_model_are_left_out_by_name(tmp_path):
    state = weights("model.") | {"loss_fn.weight": torch.ones(3), "val_metric.total": torch.tensor(0)}
    model = loaded({"state_dict": state}, tmp_path)
    assert model.config == CONFIG
    assert model.metadata[LEFT_OUT_KEY] == "loss_fn.weight, val_metric.total"


def test_other_weights_beside_the_model_are_refused(tmp_path):
    """They may change what is predicted."""
    state = weights("model.") | {"calibration.weight": torch.ones(3)}
    assert "weights of an AstroMAE" in refusal({"state_dict": state}, tmp_path)


def test_the_weights_of_two_models_are_refused(tmp_path):
    sentence = refusal({"state_dict": weights("model.") | weights("ema.")}, tmp_path)
    assert "the weights of 2 models (model., ema.)" in sentence


def test_many_names_of_one_storage_are_not_unfolded(tmp_path):
    shared = torch.zeros(100_000)
    state = weights() | {f"w.{number}": shared for number in range(1_000)}
    assert "weights would be" in refusal(state, tmp_path)


def test_tied_weights_are_fine(tmp_path):
    state = weights()
    state["inception_model.conv2d_init.bias"] = state["inception_model.vis_inception.0.bias"]
    assert loaded(state, tmp_path).config == CONFIG


@pytest.mark.parametrize("shape", [(2**61, 0), (0, 2**61), (2**40, 0, 2**40)])
def test_empty_tensors_of_impossible_shapes(shape, tmp_path):
    data = saved({"a.b": torch.zeros(4), "n": shape})
    entries = _entries(data)
    sizes = b"".join(b"\x8a\x09" + size.to_bytes(9, "little") for size in shape)
    strides = b"K\x01" * len(shape)
    entries["data.pkl"] = entries["data.pkl"].replace(b"K\x04\x85", b"(" + sizes + b"t", 1)
    entries["data.pkl"] = entries["data.pkl"].replace(b"K\x01\x85", b"(" + strides + b"t", 1)
    assert "weights would be" in refusal(_archive(entries), tmp_path)


def test_a_module_that_is_part_of_itself(tmp_path):
    module = tiny_model()
    module.register_module("again", module)
    assert "part of itself" in refusal(module, tmp_path)


def test_archives_that_lie(tmp_path):
    data = bytearray(saved(weights()))
    encrypted, at = bytearray(data), data.find(b"PK\x01\x02")
    while at >= 0:
        encrypted[at + 8] |= 1
        at = encrypted.find(b"PK\x01\x02", at + 1)
    assert "compressed or encrypted" in refusal(bytes(encrypted), tmp_path)
    entries = _entries(bytes(data))
    packed = _archive(entries, zipfile.ZIP_DEFLATED)
    assert "compressed or encrypted" in refusal(packed, tmp_path)
    overlapping, at = bytearray(data), data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", at + 1)
    overlapping[second + 42 : second + 46] = overlapping[at + 42 : at + 46]
    assert "overlap" in refusal(bytes(overlapping), tmp_path)


HOSTILE_METADATA = (
    *("[" * 100_000, "null", '{"config": 3}', '{"config": {"num_heads": 1e999}}', '{"config": {"num_heads": -1}}'),
    *('{"config": {"num_heads": 1' + "0" * 400 + "}}", '{"config": {"norm_eps": NaN}}'),
)


@pytest.mark.parametrize("told", HOSTILE_METADATA, ids=range(len(HOSTILE_METADATA)))
def test_hostile_metadata_of_safetensors(told, tmp_path):
    arrays = {name: value.numpy() for name, value in weights().items() if "conv2d_init" not in name}
    refusal(save_safetensors(arrays, metadata={METADATA_KEY: told}), tmp_path)


def _entries(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def _archive(entries, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def test_a_safetensors_file_that_begins_like_a_pickle_is_read(tmp_path):
    """Its first byte is that of the header's length, of which one in thirty-two ends in 128."""
    model = tiny_model()
    for padding in range(300):
        data = model_bytes(model, {"padding": "x" * padding})
        if data.startswith(b"\x80"):
            break
    else:
        pytest.fail("no header of such a length was made")
    (tmp_path / "m.safetensors").write_bytes(data)
    assert load_model(str(tmp_path / "m.safetensors")).format == "safetensors"
