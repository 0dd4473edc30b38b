"""Exported programs run on the dataset's tensors; what would run code when loaded is refused."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skyfan.errors import ModelError
from skyfan.models import load_model
from tests.models.support import inputs, tiny_model

pytestmark = pytest.mark.slow


class TwoOutputs(nn.Module):
    """Two outputs, the second of two columns; inputs in another order than the dataset's."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 2)

    def forward(self, magnitude: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return image.mean(dim=(1, 2, 3)), self.line(magnitude)


def _export(model: nn.Module, example: tuple[Tensor, ...], *, dynamic: bool = True) -> bytes:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in example) if dynamic else None
    program = torch.export.export(model.eval(), example, dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def program() -> bytes:
    torch.manual_seed(0)
    image, magnitude = inputs(4)
    return _export(TwoOutputs(), (magnitude, image))


def _load(data: bytes, folder: Path) -> Any:
    (folder / "program.pt2").write_bytes(data)
    return load_model(str(folder / "program.pt2"))


def _rewritten(data: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """The archive with its entries, by name without the root folder, changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"root/{name}", content)
    return buffer.getvalue()


def _edited(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The archive with its graph's description changed."""

    def edit(entries: dict[str, bytes]) -> None:
        graph = json.loads(entries["models/model.json"])
        change(graph)
        entries["models/model.json"] = json.dumps(graph).encode()

    return _rewritten(data, edit)


@pytest.mark.slow
def test_an_exported_astromae_predicts_as_the_module(tmp_path: Path):
    model = tiny_model()
    loaded = _load(_export(model, inputs(3)), tmp_path)
    image, magnitude = inputs(7)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.predict(image, magnitude), model(image, magnitude))
    assert loaded.bind(("image", "magnitude", "redshift")) == ("image", "magnitude")


def test_outputs_of_any_width_are_laid_side_by_side(program: bytes, tmp_path: Path):
    loaded = _load(program, tmp_path)
    image, magnitude = inputs(6)
    out = loaded.predict(magnitude, image)
    assert out.shape == (6, 3)
    torch.testing.assert_close(out[:, 0], image.mean(dim=(1, 2, 3)))


def test_inputs_are_bound_by_name_else_in_order(program: bytes, tmp_path: Path):
    loaded = _load(program, tmp_path)
    assert loaded.bind(("image", "magnitude")) == ("magnitude", "image")
    assert loaded.bind(("0", "1", "2")) == ("0", "1")
    with pytest.raises(ModelError, match="takes 2 tensors, the dataset has 1"):
        loaded.bind(("0",))


def test_a_program_of_one_batch_size_takes_any(tmp_path: Path):
    model = nn.Linear(5, 2)
    loaded = _load(_export(model, (torch.zeros(4, 5),), dynamic=False), tmp_path)
    _, magnitude = inputs(10)
    torch.testing.assert_close(loaded.predict(magnitude), model(magnitude).detach())


def test_guards_and_example_inputs_of_the_file_are_not_run(program: bytes, tmp_path: Path):
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {witness}",)

    pickled = io.BytesIO()
    torch.save((Evil(),), pickled)
    guard = f"__import__('os').system('touch {witness}') == 0"
    evil = _edited(program, lambda graph: graph.update(guards_code=[guard]))
    evil = _rewritten(evil, lambda entries: entries.update({"data/sample_inputs/model.pt": pickled.getvalue()}))
    image, magnitude = inputs(2)
    assert _load(evil, tmp_path).predict(magnitude, image).shape == (2, 3)
    assert not witness.exists()


def _first_node(graph: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = graph["graph_module"]["graph"]["nodes"][0]
    return node


def _signature(graph: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = graph["graph_module"]["module_call_graph"][0]["signature"]
    return found


def _hostile_size(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["sym_int_values"]["x"] = {
        "as_expr": {"expr_str": "__import__('os').getpid()", "hint": None}
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g: _first_node(g).update(target="torch.os.system"), "calls 'torch.os.system'"),
        (lambda g: _first_node(g).update(target="torch.ops.aten.save.default"), "calls 'torch.ops.aten.save"),
        (lambda g: _first_node(g).update(name="x; import os"), "no plain name"),
        (lambda g: _first_node(g)["inputs"][0].update(name="a=1, **b"), "no plain name"),
        (_hostile_size, "more than arithmetic"),
        (
            lambda g: _signature(g).update(
                in_spec='[1, {"type": "collections.defaultdict", "context": "[]", "children_spec": []}]'
            ),
            "'collections.defaultdict'",
        ),
    ],
)
def test_a_graph_that_is_more_than_tensor_operations_is_refused(
    change: Callable[[dict[str, Any]], object], says: str, program: bytes, tmp_path: Path
):
    with pytest.raises(ModelError, match=says):
        _load(_edited(program, change), tmp_path)


def _pickled_weight(entries: dict[str, bytes]) -> None:
    config = json.loads(entries["data/weights/model_weights_config.json"])
    config["config"]["line.weight"]["use_pickle"] = True
    entries["data/weights/model_weights_config.json"] = json.dumps(config).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_pickled_weight, "'line.weight' as a pickled object"),
        (lambda e: e.update({"data/aotinductor/model/a.so": b"\x7fELF"}), "a compiled library"),
        (lambda e: e.pop("models/model.json"), "no exported program"),
        (lambda e: e.update({"models/model.json": b"{"}), "cannot be read"),
        (lambda e: e.pop("data/weights/weight_0"), "cannot be read"),
    ],
)
def test_archives_with_more_or_less_than_a_graph_and_tensors_are_refused(
    change: Callable[[dict[str, bytes]], object], says: str, program: bytes, tmp_path: Path
):
    with pytest.raises(ModelError, match=says):
        _load(_rewritten(program, change), tmp_path)
