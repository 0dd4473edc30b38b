"""Honest programs of many kinds predict as the modules that they were exported from."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from skyfan.errors import ModelError
from skyfan.models import load_model
from skyfan.models.programs.checked import checked_program
from skyfan.models.programs.exported import exported_program
from skyfan.models.programs.module import ProgramModule
from tests.models.programs.corpus import CORPUS, export
from tests.models.programs.editing import WEIGHTS, edited, small
from tests.models.support import inputs, tiny_model

pytestmark = pytest.mark.slow


def _load(data: bytes, folder: Path) -> Any:
    (folder / "program.pt2").write_bytes(data)
    return load_model(str(folder / "program.pt2"), planned_digest=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("name", CORPUS)
def test_programs_of_the_corpus_predict_as_their_modules(name: str):
    make, example = CORPUS[name]
    torch.manual_seed(0)
    model = make()
    checked = checked_program(export(model, example), f"{name}.pt2")
    with torch.inference_mode():
        found = ProgramModule(checked)(*example)
        expected = model(*example)
    outputs = (
        expected.values() if isinstance(expected, dict) else expected if isinstance(expected, tuple) else [expected]
    )
    wanted = torch.cat([output.reshape(len(found), -1) for output in outputs], 1)
    torch.testing.assert_close(found, wanted)
    exported = exported_program(checked).module(check_guards=False)(*example)
    assert len(exported) == len(checked.output_names)
    torch.testing.assert_close(torch.cat([output.reshape(len(found), -1) for output in exported], 1), wanted)
    names = tuple(expected) if isinstance(expected, dict) else tuple(f"output_{at}" for at, _ in enumerate(outputs))
    assert checked.output_names == names
    assert [shape[1:] for shape in checked.example_shapes] == [tuple(tensor.shape[1:]) for tensor in example]


def test_an_exported_astromae_predicts_as_the_module(tmp_path: Path):
    model = tiny_model()
    loaded = _load(export(model, inputs(3)), tmp_path)
    image, magnitude = inputs(7)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.predict(image, magnitude), model(image, magnitude))
    assert loaded.bind(("image", "magnitude", "redshift")) == ("image", "magnitude")
    assert loaded.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_outputs_of_any_width_are_laid_side_by_side(tmp_path: Path):
    loaded = _load(small(), tmp_path)
    image, magnitude = torch.rand(6, 5, 16, 16), torch.rand(6, 5)
    out = loaded.predict(magnitude, image)
    assert out.shape == (6, 3)
    torch.testing.assert_close(out[:, 0], image.mean(dim=(1, 2, 3)))


def test_inputs_are_bound_by_name_else_in_order(tmp_path: Path):
    loaded = _load(small(), tmp_path)
    assert loaded.bind(("image", "magnitude")) == ("magnitude", "image")
    assert loaded.bind(("0", "1", "2")) == ("0", "1")
    with pytest.raises(ModelError, match="takes 2 tensors, the dataset has 1"):
        loaded.bind(("0",))


def test_a_program_of_one_batch_size_takes_any(tmp_path: Path):
    model = nn.Linear(5, 2)
    loaded = _load(export(model, (torch.zeros(4, 5),), dynamic=False), tmp_path)
    _, magnitude = inputs(10)
    torch.testing.assert_close(loaded.predict(magnitude), model(magnitude).detach())


class InPlace(nn.Module):
    """Writes into its input, which is the caller's memory."""

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(magnitude, inplace=True).sum(1)


def test_what_a_program_writes_into_its_input_stays_in_the_program(tmp_path: Path):
    loaded = _load(export(InPlace(), (torch.rand(4, 5),)), tmp_path)
    values = torch.full((3, 5), -1.0)
    assert loaded.predict(values).tolist() == [[0.0]] * 3
    assert (values == -1).all()


class Stopped(nn.Module):
    """An index that comes with the data."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 2)

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        return self.table(place)


def test_an_index_outside_is_an_error_and_no_crash(tmp_path: Path):
    loaded = _load(export(Stopped(), (torch.zeros(4, dtype=torch.int64),)), tmp_path)
    for place in (8, -1, 2**40, -(2**63)):
        with pytest.raises(ModelError, match=r"the program failed on tensors of shape \[1\]: index out of range"):
            loaded.predict(torch.tensor([place]))


def test_tensors_exported_from_a_gpu_are_on_the_cpu():
    def change(held: dict[str, Any]) -> None:
        for entry in held["config"].values():
            entry["tensor_meta"]["device"] = {"type": "cuda", "index": 3}

    module = ProgramModule(checked_program(edited(change, WEIGHTS), "gpu.pt2"))
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert module(torch.rand(2, 5), torch.rand(2, 5, 16, 16)).shape == (2, 3)
