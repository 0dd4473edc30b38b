"""`skyfan model export`: the program is the module, and whatever goes wrong in the user's code is one sentence."""

import dataclasses
import json
import sys
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from skyfan.cli.model import app
from skyfan.errors import BadInput, DatasetError, ModelError
from skyfan.events import Warned
from skyfan.models import load_model
from skyfan.models.exporting.naming import NamedModule
from skyfan.models.exporting.request import ExportRequest
from skyfan.models.exporting.tracing import export
from tests.conftest import make_sample
from tests.e2e.support import make_job, run

pytestmark = pytest.mark.slow

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, fail=False):
        super().__init__()
        if fail:
            raise KeyError("no such layer")
        self.head = nn.Sequential(nn.Linear(5, width), nn.Dropout(0.5), nn.Linear(width, 2))

    def forward(self, magnitude):
        return self.head(magnitude)

class Fixed(Net):
    def forward(self, magnitude):
        return self.head(magnitude).reshape(7, 2)

class Scalar(Net):
    def forward(self, magnitude):
        return self.head(magnitude).sum()

class Broken(Net):
    def forward(self, magnitude):
        return self.head(magnitude[:, :3])

number = 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "users_net.py").write_text(MODULE)
    make_sample(folder / "sky.pt", samples=9)
    return folder


@pytest.fixture
def users_code(folder, monkeypatch):
    """The user's folder on this process's path, for what fails before a child would matter."""
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("users_net", None)


def request(folder, factory, **more):
    return ExportRequest(factory=f"users_net:{factory}", example=str(folder / "sky.pt"), **more)


@pytest.mark.parametrize(
    ("factory", "more", "why"),
    [
        ("Net", {"arguments": {"fail": True}}, r"cannot be made .*KeyError: 'no such layer' at .*users_net\.py:9"),
        ("Missing", {}, "users_net has no Missing"),
        ("number", {}, "cannot be made"),
        ("Scalar", {"input_names": ("magnitude",)}, r"output_0 has the shape \[\] for 7 samples"),
        ("Broken", {"input_names": ("magnitude",)}, r"failed on magnitude float32 \[B, 5\].*users_net\.py:\d+"),
        ("Fixed", {}, "takes no other number of samples than the 7"),
        ("Net", {"output_names": ("a", "b")}, "gives 2 names, the model 1 tensors"),
    ],
)
def test_what_fails_in_the_users_code_is_one_sentence(users_code, factory, more, why):
    with pytest.raises(BadInput, match=why):
        export(request(users_code, factory, **more))


def test_columns_and_modules_that_are_not_there_are_named(users_code):
    with pytest.raises(ModelError, match=r"no_such_module cannot be imported .*No module named"):
        export(ExportRequest(factory="no_such_module:Net", example=str(users_code / "sky.pt")))
    with pytest.raises(DatasetError, match="no tensor 'mags'; it holds image, magnitude, redshift"):
        export(request(users_code, "Net", input_names=("mags",)))


@pytest.fixture(scope="module")
def program(folder):
    """Exported by the command, in its child, with names of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        typed = ["export", "users_net:Net", "net.pt2", "--example", "sky.pt", "--output-names", "both", "--json"]
        shown = CliRunner().invoke(app, [*typed, "--arguments", '{"width": 6}'], catch_exceptions=False)
    report = json.loads(shown.stdout)
    assert "running your code: users_net:Net" in shown.stderr
    assert report["outputs"] == {"both": [2]}
    assert set(report["deviations"]) == {"1", "7", "512"}
    assert max(report["deviations"].values()) <= 1e-5
    return folder / "net.pt2"


def test_the_command_writes_a_program_with_a_free_number_of_samples(program):
    loaded = load_model(str(program))
    assert [(taken.name, taken.shape) for taken in loaded.inputs] == [("magnitude", (None, 5))]
    assert loaded.warnings == ()
    assert loaded.predict(torch.zeros(3, 5)).shape == (3, 2)
    assert "users_net" not in sys.modules


def test_an_existing_file_is_replaced_only_with_force(program):
    before = program.read_bytes()
    typed = ["export", "users_net:Net", str(program), "--example", "sky.pt"]
    with pytest.raises(BadInput, match=r"net\.pt2 exists; .* --force"):
        CliRunner().invoke(app, typed, catch_exceptions=False)
    assert program.read_bytes() == before


def test_outputs_of_other_weights_are_refused(program, tmp_path):
    path = tmp_path / "swapped.pt2"
    with zipfile.ZipFile(program) as read, zipfile.ZipFile(path, "w") as written:
        for entry in read.infolist():
            data = read.read(entry)
            if entry.filename.endswith("data/weights/weight_0"):
                data = (np.frombuffer(data, np.float32) + 0.5).tobytes()
            written.writestr(zipfile.ZipInfo(entry.filename), data)
    with pytest.raises(ModelError, match="other outputs here than the module that it was exported from"):
        load_model(str(path))


def test_a_program_for_one_batch_size_is_warned_of_before_ranks_begin(sample, tmp_path):
    fixed = torch.export.export(nn.Linear(5, 1).eval(), (torch.rand(4, 5),))
    torch.export.save(fixed, tmp_path / "fixed.pt2")
    events = []
    job = make_job(sample.path, tmp_path / "fixed.pt2", tmp_path / "run", inputs=["input=magnitude"], world_size=1)
    run(job, events=events)
    (warned,) = (event for event in events if isinstance(event, Warned))
    assert "exported for 4 samples at a time" in warned.sentence
    assert "skyfan model export MODULE:CLASS" in warned.sentence
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "fixed.pt2")], catch_exceptions=False)
    assert "skyfan model export MODULE:CLASS" in shown.stderr.replace("\n", " ")


class Pair(NamedTuple):
    z: torch.Tensor
    rest: list


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    loss: None = None


class Returns(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return {
            "tensor": x,
            "tuple": (x, x),
            "dict": {"z": x, "heads": [x, x]},
            "named tuple": Pair(x, [x, None]),
            "dataclass": Output(x),
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tensor", ["output_0"]),
        ("tuple", ["output_0", "output_1"]),
        ("dict", ["z", "heads_0", "heads_1"]),
        ("named tuple", ["z", "rest_0"]),
        ("dataclass", ["logits"]),
    ],
)
def test_outputs_of_any_structure_have_names(kind, names):
    assert list(NamedModule(Returns(kind), (), ()).call([torch.ones(2, 1)])) == names
