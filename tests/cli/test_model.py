"""`skyfan model` as a user types it."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from typer.testing import CliRunner

from skyfan.cli.model import app
from skyfan.errors import BadInput
from skyfan.models import demo_model_path, load_model
from tests.conftest import make_sample
from tests.models.onnx.models import perceptron
from tests.models.programs.corpus import export
from tests.models.support import saved, tiny_model

pytestmark = pytest.mark.slow

run = CliRunner()


def test_inspect_says_what_is_in_a_model_and_where_it_was_read():
    shown = run.invoke(app, ["inspect", "demo", "--json"], catch_exceptions=False)
    facts = json.loads(shown.stdout)
    assert facts["architecture"] == "AstroMAE"
    assert facts["inputs"] == {"image": "float32 [any, 5, 32, 32]", "magnitude": "float32 [any, 5]"}
    assert facts["configuration"]["num_heads"] == "4 (from the file's metadata)"
    mixture = dict.fromkeys(("z_mean", "z_sigma", "z_weight"), "float32 [any, 3]")
    assert facts["outputs"] == {"z_pred": "float32 [any]", **mixture}
    assert int(facts["flop_per_sample"].replace(",", "")) > 1_000_000
    assert facts["engine"]["name"] == "openvino"
    table = run.invoke(app, ["inspect", str(demo_model_path())], catch_exceptions=False).stdout
    assert "AstroMAE" in table
    assert load_model("demo").digest in table


def test_inspect_shows_what_an_onnx_model_calls_costs_and_runs_on(tmp_path: Path):
    onnx.save(perceptron(), tmp_path / "m.onnx")
    shown = run.invoke(app, ["inspect", str(tmp_path / "m.onnx"), "--json"], catch_exceptions=False)
    facts = json.loads(shown.stdout)
    assert facts["architecture"] == "ONNX model"
    assert facts["inputs"] == {"magnitude": "float32 [any, 5]"}
    assert facts["outputs"] == {"features": "float32 [any, 3]", "z_pred": "float32 [any, 1]"}
    assert facts["operators"] == {"Gemm": 1, "MatMul": 2, "Tanh": 1}
    assert facts["flop_per_sample"] == f"{2 * (5 * 32 + 32 * 3 + 32):,}"
    assert facts["engine"]["name"] in ("openvino", "onnxruntime")
    assert facts["engine"]["reason"].startswith("auto: ")
    assert "for runs" not in facts["engine"]


def test_inspect_shows_what_a_program_calls_costs_and_runs_on(tmp_path: Path):
    data = export(torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU()), (torch.rand(4, 5),))
    (tmp_path / "m.pt2").write_bytes(data)
    shown = run.invoke(app, ["inspect", str(tmp_path / "m.pt2"), "--json"], catch_exceptions=False)
    facts = json.loads(shown.stdout)
    assert facts["outputs"] == {"output_0": "float32 [any, 8]"}
    assert facts["operators"] == {"aten.linear.default": 1, "aten.relu.default": 1}
    assert facts["flop_per_sample"] == "80"
    assert facts["engine"]["name"] in ("openvino", "torch")
    assert facts["engine"]["reason"].startswith("auto: ")
    assert ("for runs" in facts["engine"]) == (facts["engine"]["name"] == "openvino")


def test_convert_writes_safetensors_and_refuses_another_name(tmp_path: Path):
    source = tmp_path / "whole.pt"
    source.write_bytes(saved(tiny_model()))
    out = tmp_path / "model.safetensors"
    assert run.invoke(app, ["convert", str(source), str(out)], catch_exceptions=False).exit_code == 0
    assert load_model(str(out)).config == load_model(str(source)).config
    with pytest.raises(BadInput, match=r"must end with \.safetensors"):
        run.invoke(app, ["convert", str(source), str(tmp_path / "model.pt")], catch_exceptions=False)


def test_train_writes_a_model_with_its_curve_and_no_state_file(tmp_path: Path):
    sample = make_sample(tmp_path / "sky.pt", samples=40)
    out = tmp_path / "model.safetensors"
    arguments = ["train", str(sample.path), "--out", str(out), "--epochs", "1", "--batch-size", "16", "--json", "-q"]
    shown = run.invoke(app, arguments, catch_exceptions=False)
    assert json.loads(shown.stdout)["epochs"] == 1
    assert load_model(str(out)).metadata["training"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "model.training", "sky.pt"]
    with pytest.raises(BadInput, match="folder that exists"):
        run.invoke(
            app, ["train", str(sample.path), "--out", str(tmp_path / "no" / "m.safetensors")], catch_exceptions=False
        )


def test_train_replaces_a_model_only_with_force_and_says_where_the_checkpoint_is(tmp_path: Path):
    sample = make_sample(tmp_path / "sky.pt", samples=40)
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"precious")
    arguments = ["train", str(sample.path), "--out", str(out), "--epochs", "1", "--batch-size", "16"]
    with pytest.raises(BadInput, match=r"model\.safetensors exists.*--force"):
        run.invoke(app, arguments, catch_exceptions=False)
    assert out.read_bytes() == b"precious"
    shown = run.invoke(app, [*arguments, "--force"], catch_exceptions=False)
    assert "model.training" in shown.stderr.replace("\n", "")
    assert load_model(str(out)).metadata["training"]


def test_the_same_training_again_is_done_and_another_is_refused(tmp_path: Path):
    sample = make_sample(tmp_path / "sky.pt", samples=40)
    out = tmp_path / "model.safetensors"
    arguments = ["train", str(sample.path), "--out", str(out), "--epochs", "1", "--batch-size", "16"]
    first = run.invoke(app, arguments, catch_exceptions=False)
    told = " ".join(first.stderr.split())
    assert "epoch 1/1: loss" in told
    assert "left; best: epoch 1" in told
    content = out.read_bytes()
    again = run.invoke(app, arguments, catch_exceptions=False)
    assert "is done" in again.stderr
    assert out.read_bytes() == content
    with pytest.raises(BadInput, match="is not of this data and these settings"):
        run.invoke(app, [*arguments, "--seed", "8"], catch_exceptions=False)
    with pytest.raises(BadInput, match="is not of this data and these settings"):
        run.invoke(app, [*arguments, "--size", "reference"], catch_exceptions=False)
    head = ["--from", str(out), "--loss", "mixture", "--head-only", "--components", "2"]
    mixture = tmp_path / "mixture.safetensors"
    run.invoke(app, [*arguments[:3], str(mixture), *arguments[4:], *head], catch_exceptions=False)
    assert load_model(str(mixture)).config.mixture == 2
    with pytest.raises(BadInput, match="--size is for new models"):
        run.invoke(app, [*arguments, "--size", "small", *head], catch_exceptions=False)


def test_compare_needs_both_datasets_or_none(tmp_path: Path):
    with pytest.raises(BadInput, match="give both --train and --test"):
        run.invoke(app, ["compare", "--train", str(tmp_path / "a.pt")], catch_exceptions=False)
