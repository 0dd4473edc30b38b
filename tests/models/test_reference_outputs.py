"""A model's file can hold reference outputs, bound to its weights: an engine is checked where torch is not imported."""

import hashlib
import json
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from skyfan.engines import create_engine
from skyfan.engines.openvino_engine import supported_precisions
from skyfan.errors import ModelError
from skyfan.job import RunOptions
from skyfan.models import AstroMAE, AstroMAEConfig, load_model
from skyfan.models.checkpoint import write_safetensors
from skyfan.models.reference_outputs import CHECKED_SAMPLES
from skyfan.models.safetensors_files import convert_checkpoint, model_bytes, portable_bytes
from skyfan.models.shapes import weight_shapes
from skyfan.models.sizes import SMALL
from tests.models.support import TINY, tiny_model

pytest.importorskip("skyfan.engines.openvino_import")
PREDICT = """
import json, sys
import numpy as np
from skyfan.engines import create_engine
from skyfan.engines.openvino_engine import supported_precisions
from skyfan.models import load_model
from skyfan.job import RunOptions

engine = create_engine(load_model(sys.argv[1]), RunOptions(), threads=1)
image, magnitude = np.ones((3, 5, 32, 32), np.float32), np.full((3, 5), 17, np.float32)
z = engine.predict([image, magnitude])[:, 0].tolist()
print(json.dumps({"engine": engine.info.name, "torch": "torch" in sys.modules, "z": z}))
"""


@pytest.mark.parametrize("config", [AstroMAEConfig(), SMALL, replace(SMALL, qkv_bias=False, channels=3, magnitudes=4)])
def test_shapes_are_those_of_the_module(config):
    with torch.device("meta"):
        state = AstroMAE(config).state_dict()
    wanted = {name: tuple(v.shape) for name, v in state.items() if "conv2d_init" not in name}
    assert weight_shapes(config) == wanted


def test_demo_model_is_run_without_importing_torch():
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, "demo"], capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout)
    assert (found["engine"], found["torch"]) == ("openvino", False)
    values = torch.ones(3, 5, 32, 32), torch.full((3, 5), 17.0)
    np.testing.assert_allclose(found["z"], load_model("demo").predict(*values)[:, 0], rtol=2e-5)


def test_converted_models_hold_reference_outputs(tmp_path):
    torch.save(tiny_model().state_dict(), tmp_path / "tiny.pt")
    (tmp_path / "tiny.safetensors").write_bytes(convert_checkpoint(str(tmp_path / "tiny.pt")))
    loaded = load_model(str(tmp_path / "tiny.pt"))
    (tmp_path / "again.safetensors").write_bytes(portable_bytes(loaded))
    for name in ("tiny", "again"):
        converted = load_model(str(tmp_path / f"{name}.safetensors"))
        assert converted.reference_outputs is not None
        assert len(converted.reference_outputs) == CHECKED_SAMPLES
        assert converted.made_of == loaded.digest
    assert loaded.made_of is None


def test_outputs_that_are_not_finite_are_left_out(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.concat_block[-1].weight.fill_(3e38)
    (tmp_path / "m.safetensors").write_bytes(model_bytes(model, {}))
    assert load_model(str(tmp_path / "m.safetensors")).reference_outputs is None


def test_a_reduced_precision_is_never_replaced_by_another(tmp_path):
    if not (offered := supported_precisions()):
        pytest.skip("this processor has no reduced precision")
    (tmp_path / "m.safetensors").write_bytes(
        write_safetensors(tiny_model().state_dict(), TINY, {}, ((1.0,),) * CHECKED_SAMPLES)
    )
    with pytest.raises(ModelError, match="deviates from torch"):
        create_engine(load_model(str(tmp_path / "m.safetensors")), RunOptions(precision=offered[0]), threads=1)


def test_weights_that_are_no_real_numbers_are_refused(tmp_path):
    state = tiny_model().state_dict()
    state["head.weight"] = state["head.weight"].to(torch.int32)
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"head\.weight holds int32, not floating-point numbers"):
        load_model(str(tmp_path / "m.pt"))


def test_model_whose_outputs_are_not_the_engines_is_refused(tmp_path):
    model = tiny_model()
    wrong = ((1.0,),) * CHECKED_SAMPLES
    (tmp_path / "m.safetensors").write_bytes(write_safetensors(model.state_dict(), TINY, {}, wrong))
    loaded = load_model(str(tmp_path / "m.safetensors"))
    with pytest.raises(ModelError, match="deviates from torch"):
        create_engine(loaded, RunOptions(engine="openvino"), threads=1)
    assert create_engine(loaded, RunOptions(), threads=1).info.name == "torch"


def test_outputs_that_are_no_numbers_are_refused(tmp_path):
    data = write_safetensors(tiny_model().state_dict(), TINY, {}, ((float("nan"),),))
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="reference outputs that are no numbers"):
        load_model(str(tmp_path / "m.safetensors"))


def test_outputs_of_other_weights_are_refused(tmp_path):
    """One weight of a file is changed; the outputs beside it stay those of before."""
    data = bytearray(model_bytes(tiny_model(), {}))
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="reference outputs of other weights than its own; convert"):
        load_model(str(tmp_path / "m.safetensors"))


def test_a_rank_takes_a_file_that_was_checked_when_the_run_was_prepared(tmp_path):
    """Its SHA-256 is that of the plan; the digest over all weights once more would be part of every cold start."""
    data = bytearray(model_bytes(tiny_model(), {}))
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    assert load_model(str(tmp_path / "m.safetensors"), planned_digest=hashlib.sha256(data).hexdigest()).bound_outputs


def _without_binding(data: bytes) -> bytes:
    """The file as it was written before the digest."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    told = json.loads(header["__metadata__"]["skyfan"])
    del told["reference_outputs_sha256"]
    header["__metadata__"]["skyfan"] = json.dumps(told)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def test_files_of_before_the_binding_still_load(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(_without_binding(model_bytes(tiny_model(), {})))
    loaded = load_model(str(tmp_path / "m.safetensors"))
    assert len(loaded.reference_outputs or ()) == CHECKED_SAMPLES
    assert create_engine(loaded, RunOptions(), threads=1).info.name == "openvino"


def test_outputs_without_the_binding_that_do_not_fit_are_refused_not_replaced_by_torch(tmp_path):
    wrong = write_safetensors(tiny_model().state_dict(), TINY, {}, ((1.0,),) * CHECKED_SAMPLES)
    (tmp_path / "m.safetensors").write_bytes(_without_binding(wrong))
    loaded = load_model(str(tmp_path / "m.safetensors"))
    with pytest.raises(ModelError, match=r"no digest that binds them to its weights.*skyfan model convert"):
        create_engine(loaded, RunOptions(), threads=1)
