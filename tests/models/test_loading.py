"""Every checkpoint format loads to the same predictions; nothing that a file names is run."""

import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from skyfan import store
from skyfan.errors import LocationError, ModelError
from skyfan.models import load_model
from skyfan.models.checkpoint import write_safetensors
from skyfan.models.safetensors_files import convert_checkpoint
from tests.models.support import TINY, inputs, saved, tiny_model

FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints pickled by another process, from classes that this process cannot import."""
    folder = tmp_path_factory.mktemp("foreign")
    environment = {**os.environ, "PYTHONPATH": str(FOREIGN)}
    subprocess.run([sys.executable, str(FOREIGN / "pickle_it.py"), str(folder)], check=True, env=environment)
    return folder


@pytest.mark.parametrize(
    ("file", "format_"), [("whole.pt", "module"), ("nested.pt", "state_dict"), ("state.pth", "state_dict")]
)
def test_foreign_checkpoints_predict_as_where_they_were_made(foreign: Path, file: str, format_: str):
    assert not {"NormalCell", "blocks"} & set(sys.modules)
    loaded = load_model(str(foreign / file))
    if format_ == "state_dict":
        (foreign / "six_heads.safetensors").write_bytes(convert_checkpoint(str(foreign / file), heads=6))
        loaded = load_model(str(foreign / "six_heads.safetensors"))
    image, magnitude, expected = torch.load(foreign / "expected.pt")
    error = (loaded.predict(image, magnitude) - expected).abs()
    assert (error <= 2e-5 * expected.abs().clamp(min=1)).all()
    assert not {"NormalCell", "blocks"} & set(sys.modules)


def test_a_pickled_module_tells_what_shapes_do_not(foreign: Path):
    loaded = load_model(str(foreign / "whole.pt"))
    assert loaded.config is not None
    assert (loaded.config.num_heads, loaded.config.pcm_groups) == (6, 4)
    assert loaded.format == "module"
    assert loaded.origins["num_heads"] == "the file's module"
    assert load_model(str(foreign / "state.pth")).origins["num_heads"] == "the default"


def test_conversion_keeps_predictions_and_names_the_source(foreign: Path, tmp_path: Path):
    out = str(tmp_path / "model.safetensors")
    store.put(out, convert_checkpoint(str(foreign / "whole.pt")))
    image, magnitude, expected = torch.load(foreign / "expected.pt")
    loaded = load_model(out)
    torch.testing.assert_close(loaded.predict(image, magnitude), expected, atol=2e-5, rtol=2e-5)
    source = (foreign / "whole.pt").read_bytes()
    assert loaded.metadata["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert loaded.metadata["source"] == "blocks.model_vit_inception.ViT_Astro"
    assert loaded.origins["num_heads"] == "the file's metadata"
    store.put(str(tmp_path / "again.safetensors"), convert_checkpoint(str(foreign / "whole.pt")))
    assert (tmp_path / "again.safetensors").read_bytes() == Path(out).read_bytes()


@pytest.mark.parametrize(
    "pack",
    [
        lambda m: saved(m.state_dict()),
        lambda m: saved({f"module.{name}": value for name, value in m.state_dict().items()}),
        lambda m: saved({"model": {f"module._orig_mod.{n}": v for n, v in m.state_dict().items()}, "lr": 0.1}),
        lambda m: saved(m),
        lambda m: saved({"epoch": 3, "model": nn.DataParallel(m)}),
        lambda m: saved({name: value.double() for name, value in m.state_dict().items()}),
        lambda m: write_safetensors(m.state_dict(), m.config, {}),
    ],
)
def test_formats_are_told_by_content_and_agree(pack: Callable[[nn.Module], bytes], tmp_path: Path):
    model = tiny_model()
    path = tmp_path / "model.bin"
    path.write_bytes(pack(model))
    (tmp_path / "m.safetensors").write_bytes(convert_checkpoint(str(path), heads=2))
    loaded = load_model(str(tmp_path / "m.safetensors"))
    image, magnitude = inputs()
    with torch.inference_mode():
        torch.testing.assert_close(loaded.predict(image, magnitude), model(image, magnitude))
    assert loaded.config == TINY
    assert load_model(str(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()


class _Runs:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call[0], tuple(self.call[1:])


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"posix\.system \(os\.system\)"), (eval, r"builtins\.eval"), (pickle.loads, r"pickle\.loads")],
)
def test_a_file_that_would_run_something_is_refused_by_name(
    function: Callable[..., object], named: str, tmp_path: Path
):
    witness = tmp_path / "witness"
    arguments = {os.system: f"touch {witness}", eval: f"open({str(witness)!r}, 'w')", pickle.loads: b"N."}
    path = tmp_path / "evil.pt"
    path.write_bytes(saved({"state_dict": tiny_model().state_dict(), "x": _Runs(function, arguments[function])}))
    with pytest.raises(ModelError, match=rf"would run {named} when loaded"):
        load_model(str(path))
    assert not witness.exists()


def test_a_state_that_would_change_the_loader_is_refused(tmp_path: Path):
    """BUILD on one of the loader's own functions: it must not be able to keep anything."""
    evil = b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb."
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", evil)
    with pytest.raises(ModelError, match="gives state to a function"):
        load_model(str(path))


def test_damaged_files_are_one_sentence(tmp_path: Path):
    whole = saved(tiny_model().state_dict())
    cases = {
        "empty": (b"", "is empty"),
        "truncated": (whole[: len(whole) // 2], "truncated or damaged"),
        "text": (b"hello, world, this is no model", "no complete safetensors file"),
        "legacy": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.rest", "before torch 1.6"),
        "short safetensors": (write_safetensors(tiny_model().state_dict(), TINY, {})[:-9], "safetensors"),
        "list": (saved([1, 2, 3]), "neither a state dict nor a module"),
    }
    for name, (data, says) in cases.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=says) as caught:
            load_model(str(path))
        assert "\n" not in str(caught.value)


def test_flipped_bytes_are_noticed(tmp_path: Path):
    data = bytearray(saved(tiny_model().state_dict()))
    at = data.find(tiny_model().head.weight.detach().numpy().tobytes())
    data[at + 5] ^= 0xFF
    (tmp_path / "bad.pt").write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_model(str(tmp_path / "bad.pt"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("head.weight"), "lacks weight head.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(2)}), "unexpected weight extra.weight"),
        (lambda s: s.update({"head.weight": torch.zeros(3, 3)}), r"head.weight has the shape \[3, 3\], not \[8, 8\]"),
        (lambda s: s["head.weight"].fill_(torch.nan), "head.weight holds NaN"),
        (lambda s: s.update({"inception_model.conv2d_init.bias": torch.ones(4)}), "two different versions"),
    ],
)
def test_weights_that_do_not_fit_are_named(spoil: Callable[[dict], object], says: str, tmp_path: Path):
    state = {name: value.clone() for name, value in tiny_model().state_dict().items()}
    spoil(state)
    (tmp_path / "bad.pt").write_bytes(saved(state))
    with pytest.raises(ModelError, match=says):
        load_model(str(tmp_path / "bad.pt"))


def test_another_architecture_is_told_about_exported_programs(tmp_path: Path):
    (tmp_path / "other.pt").write_bytes(saved(nn.Sequential(nn.Linear(5, 1)).state_dict()))
    with pytest.raises(ModelError, match=r"not the weights of an AstroMAE .*skyfan model export .*\.pt2"):
        load_model(str(tmp_path / "other.pt"))


def test_inputs_of_another_shape_are_refused_before_the_call(tmp_path: Path):
    (tmp_path / "m.pt").write_bytes(saved(tiny_model()))
    loaded = load_model(str(tmp_path / "m.pt"))
    with pytest.raises(
        ModelError, match=r"'image' of shape \[samples, 5, 32, 32\], the dataset's has \[samples, 5, 16, 16\]"
    ):
        loaded.predict(torch.zeros(2, 5, 16, 16), torch.zeros(2, 5))
    assert loaded.bind(("redshift", "magnitude", "image")) == ("image", "magnitude")
    with pytest.raises(ModelError, match="no tensor 'magnitude'"):
        loaded.bind(("image", "redshift"))


def test_missing_file_and_unknown_device_are_location_errors(tmp_path: Path):
    with pytest.raises(LocationError):
        load_model(str(tmp_path / "nothing.pt"))
    (tmp_path / "m.pt").write_bytes(saved(tiny_model()))
    with pytest.raises(LocationError, match="'toaster'"):
        load_model(str(tmp_path / "m.pt"), device="toaster")


def test_models_load_from_any_store():
    store.put("memory://models/tiny.safetensors", write_safetensors(tiny_model().state_dict(), TINY, {}))
    assert load_model("memory://models/tiny.safetensors").config == TINY
