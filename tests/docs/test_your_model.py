"""docs/how-to/your-model.md: its commands are run as they stand, with the files that a newcomer has."""

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import make_sample

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "your-model.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)
SHORTER = "--world-size 1 --on process"


def commands(heading):
    """The lines of shell below a heading of the page."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for kind, _, text in BLOCK.findall(section) if kind == "bash" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page takes for granted: a dataset, and one model in the forms that people keep them in."""
    folder = tmp_path_factory.mktemp("newcomer")
    for _, title, text in BLOCK.findall(PAGE.read_text()):
        if title:
            (folder / title).write_text(text)
    sample = make_sample(folder / "sky.pt", samples=20)
    names: dict = {}
    exec((folder / "my_net.py").read_text(), names)
    torch.manual_seed(3)
    net = names["MyNet"]().eval()
    state = net.state_dict()
    torch.save(state, folder / "weights.pt")
    # The layout of Lightning 2: https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html
    inside = {f"model.{name}": values for name, values in state.items()} | {"loss.weight": torch.ones(2)}
    checkpoint = {"epoch": 3, "global_step": 99, "pytorch-lightning_version": "2.5.0", "state_dict": inside}
    torch.save(checkpoint | {"optimizer_states": [], "hyper_parameters": {"lr": 1e-3}}, folder / "last.ckpt")
    (folder / "my-hf-model").mkdir()
    (folder / "my-hf-model" / "config.json").write_text(json.dumps({"hidden_size": 8, "model_type": "my"}))
    save_file(state, folder / "my-hf-model" / "model.safetensors")
    torch.jit.save(torch.jit.trace(net, (torch.zeros(2, 5, 32, 32), torch.zeros(2, 5)), strict=False),
                   folder / "scripted.pt")  # fmt: skip
    image, magnitude = (torch.as_tensor(values).float() for values in (sample.image, sample.magnitude))
    with torch.inference_mode():
        return folder, net(image, magnitude)["z_pred"].numpy()


def typed(line, folder):
    """A line of the page, run in the folder."""
    line = line.removesuffix("  # refused")
    words = shlex.split(line + (f" {SHORTER}" if line.startswith("skyfan run") else ""))
    python = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "skyfan"]
    return subprocess.run([*python, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("heading", "run"),
    [
        ("A class and a state dict", "net"),
        ("A PyTorch Lightning checkpoint", "lightning"),
        ("A Hugging Face folder", "hub"),
    ],
)
def test_a_newcomers_model_runs_in_two_commands(folder, heading, run):
    where, expected = folder
    for line in commands(heading)[:2]:
        done = typed(line, where)
        assert done.returncode == 0, done.stderr
        assert ("running your code" in done.stderr) == ("model export" in line)
    table = pq.read_table(where / "runs" / run / "predictions")
    assert abs(table["z_pred"].to_numpy() - expected).max() < 2e-5
    assert "error" in table.column_names


@pytest.mark.skipif(find_spec("skyfan.models.onnx") is None, reason="ONNX is not read yet")
def test_an_onnx_file_runs_in_one_command(folder):
    onnx = pytest.importorskip("onnx")
    where = folder[0]
    taken = onnx.helper.make_tensor_value_info("magnitude", onnx.TensorProto.FLOAT, ["batch", 5])
    given = onnx.helper.make_tensor_value_info("z_pred", onnx.TensorProto.FLOAT, ["batch", 1])
    node = onnx.helper.make_node("ReduceMean", ["magnitude"], ["z_pred"], axes=[1], keepdims=1)
    graph = onnx.helper.make_graph([node], "mean", [taken], [given])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
              where / "net.onnx")  # fmt: skip
    (line,) = commands("An ONNX file")
    done = typed(line, where)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(where / "runs" / "onnx" / "predictions")["z_pred"].null_count == 0


def test_a_torchscript_file_is_refused_with_the_way_out(folder):
    refused, *ways_out = commands("A TorchScript file")
    done = typed(refused, folder[0])
    assert done.returncode == 2
    assert "TorchScript archive" in done.stderr
    assert "skyfan model export" in done.stderr
    for line in ways_out:
        done = typed(line, folder[0])
        assert done.returncode == 0, done.stderr
