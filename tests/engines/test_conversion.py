"""Programs and ONNX models are converted once a run; ranks load what was checked, without torch."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sklearn.ensemble import ExtraTreesRegressor
from torch import nn

from skyfan.engines import create_engine
from skyfan.engines.conversion import convert_model
from skyfan.engines.paying import Work, samples_per_s, why_not_worth_it
from skyfan.errors import BadInput, ModelError
from skyfan.job import RunOptions
from skyfan.models import load_model
from skyfan.models.converted import read_converted, write_choice
from skyfan.models.loading import LoadedModel
from tests.models.onnx.models import expected_of_perceptron, magnitude, perceptron, trees
from tests.models.programs.corpus import MixtureDensity, export

pytest.importorskip("skyfan.engines.openvino_import")
OPENVINO = RunOptions(engine="openvino")
PREDICT = """
import json, sys
import numpy as np
from skyfan.engines import create_engine
from skyfan.job import RunOptions
from skyfan.models import load_model

uri, digest, values = sys.argv[1:]
model = load_model(uri, planned_digest=digest)
engine = create_engine(model, RunOptions(), threads=2)
out = engine.predict([np.load(values)])
names = [spec.name for spec in engine.outputs(out.shape[1])]
absent = [name for name in ("torch", "onnx", "onnxruntime") if name not in sys.modules]
print(json.dumps({"engine": engine.info.name, "reason": engine.info.reason, "absent": absent, "names": names,
                  "out": out.tolist()}))
"""


def _program(folder: Path, model: nn.Module, example: tuple[torch.Tensor, ...]) -> LoadedModel:
    data = export(model, example)
    (folder / "m.pt2").write_bytes(data)
    return load_model(str(folder / "m.pt2"), planned_digest=hashlib.sha256(data).hexdigest())


def _onnx(folder: Path, model: onnx.ModelProto) -> LoadedModel:
    onnx.save(model, folder / "m.onnx")
    return load_model(str(folder / "m.onnx"))


def _converted(model: LoadedModel, folder: Path, options: RunOptions = OPENVINO) -> str:
    data = Path(model.uri).read_bytes()
    conversion = convert_model(model, data, options, threads=1, samples=None, timed=False)
    write_choice(str(folder / "model"), conversion.choice, conversion.files)
    return str(folder / "model" / "engine.json")


def _in_a_fresh_process(uri: str, values: np.ndarray, folder: Path) -> dict[str, object]:
    np.save(folder / "values.npy", values)
    digest = hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    command = [sys.executable, "-c", PREDICT, uri, digest, str(folder / "values.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, nn.Module, Path]:
    folder = tmp_path_factory.mktemp("program")
    torch.manual_seed(0)
    module = MixtureDensity().eval()
    return _converted(_program(folder, module, (torch.from_numpy(magnitude(4)),)), folder), module, folder


def test_ranks_load_a_converted_program_without_torch(program: tuple[str, nn.Module, Path]):
    uri, module, folder = program
    found = _in_a_fresh_process(uri, magnitude(70), folder)
    assert (found["engine"], found["reason"], found["names"]) == ("openvino", "asked for", ["z", "mode", "pdf", "pit"])
    assert "torch" in found["absent"]
    with torch.inference_mode():
        outputs = module(torch.from_numpy(magnitude(70))).values()
    expected = torch.cat([output.reshape(70, -1) for output in outputs], 1).numpy()
    np.testing.assert_allclose(found["out"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", ["xml", "bin", "npy"])
def test_a_file_of_a_converted_program_that_was_replaced_is_refused(program: tuple[str, nn.Module, Path], suffix: str):
    uri = Path(program[0])
    (file,) = uri.parent.glob(f"*.{suffix}")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(ModelError, match="changed; remove"):
            read_converted(str(uri), uri.read_bytes())
    finally:
        file.write_bytes(whole)


def test_what_ranks_load_is_no_model_to_name(program: tuple[str, nn.Module, Path]):
    with pytest.raises(ModelError, match="is what a run's ranks load, not a model"):
        load_model(program[0])


class Joined(nn.Module):
    """Two inputs; the converter meets the weights of the image's patches first, and may give inputs another order."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(5, 8, 4, stride=4), nn.Parameter(torch.randn(1, 4, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(13, 1)

    def forward(self, image: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
        x = self.layer(self.patch(image).flatten(2).transpose(1, 2) + self.place)
        return self.head(torch.cat((x.mean(1), magnitude), 1))


def test_two_inputs_keep_their_order(tmp_path: Path):
    torch.manual_seed(0)
    module, values = Joined().eval(), (torch.rand(9, 5, 8, 8), torch.rand(9, 5))
    uri = _converted(_program(tmp_path, module, values), tmp_path)
    digest = hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    engine = create_engine(load_model(uri, planned_digest=digest), RunOptions(), threads=1)
    assert engine.info.name == "openvino"
    with torch.inference_mode():
        expected = module(*values).numpy()
    np.testing.assert_allclose(engine.predict([tensor.numpy() for tensor in values]), expected, rtol=1e-4, atol=1e-5)


class Median(nn.Module):
    """An operator that OpenVINO has no rule for."""

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return magnitude.median(1).values


class Table(nn.Module):
    """Looks classes up that the dataset holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2)

    def forward(self, kind: torch.Tensor) -> torch.Tensor:
        return self.table(kind)


def test_a_program_that_does_not_convert_runs_on_torch_and_the_record_says_why(tmp_path: Path):
    model = _program(tmp_path, Median(), (torch.rand(4, 5),))
    uri = _converted(model, tmp_path, RunOptions())
    digest = hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    engine = create_engine(load_model(uri, planned_digest=digest), RunOptions(), threads=1)
    assert engine.info.name == "torch"
    assert "openvino does not convert it" in engine.info.reason
    assert "aten.median.dim" in engine.info.reason
    with pytest.raises(ModelError, match=r"cannot be run by the openvino engine.*use --engine auto"):
        _converted(model, tmp_path, OPENVINO)


def test_places_that_the_dataset_decides_stay_with_torch(tmp_path: Path):
    """torch refuses a class beyond the table; a converted program would give numbers all the same."""
    model = _program(tmp_path, Table(), (torch.zeros(4, dtype=torch.int64),))
    conversion = convert_model(model, Path(model.uri).read_bytes(), RunOptions(), threads=1, samples=None, timed=False)
    assert conversion.choice.engine == "torch"
    assert conversion.choice.reason.startswith("auto: embedding looks up the dataset's own numbers")


@pytest.mark.parametrize(
    ("samples", "executors", "is_worth_it"), [(300, 1, False), (10**12, 1, True), (300, 1000, True)]
)
def test_a_conversion_pays_in_a_long_run_and_where_many_processes_would_load_torch(
    tmp_path: Path, samples: int, executors: int, *, is_worth_it: bool
):
    model = _program(tmp_path, MixtureDensity().eval(), (torch.from_numpy(magnitude(4)),))
    for rows in (None, [magnitude(4)]):
        assert (why_not_worth_it(model, Work(samples, executors), rows, threads=1) is None) == is_worth_it


def test_a_short_run_is_not_converted_unless_openvino_is_asked_for(tmp_path: Path):
    model = _program(tmp_path, MixtureDensity().eval(), (torch.from_numpy(magnitude(4)),))
    data, given = Path(model.uri).read_bytes(), {"threads": 1, "samples": None, "timed": True, "work": Work(300, 1)}
    stays = convert_model(model, data, RunOptions(), **given)
    assert (stays.choice.engine, stays.files) == ("torch", {})
    assert stays.choice.reason.startswith("auto: 300 predictions of this model take about ")
    forced = convert_model(model, data, OPENVINO, **given)
    assert (forced.choice.engine, forced.choice.reason) == ("openvino", "asked for")


def test_an_onnx_model_is_converted_for_any_run(tmp_path: Path):
    model = _onnx(tmp_path, perceptron())
    given = {"threads": 1, "samples": None, "timed": False, "work": Work(4, 1)}
    assert convert_model(model, Path(model.uri).read_bytes(), RunOptions(), **given).choice.engine == "openvino"


def test_a_rate_is_of_batches_that_take_long_enough_to_be_timed():
    taken: list[int] = []
    found = samples_per_s(lambda batch: taken.append(len(batch[0])), [magnitude(2)], clock=lambda: 0.002 * sum(taken))
    assert found == pytest.approx(500)
    assert taken == [2, 2, 8, 32]


def test_an_onnx_model_becomes_openvinos_and_keeps_its_names(tmp_path: Path):
    uri = _converted(_onnx(tmp_path, perceptron()), tmp_path)
    found = _in_a_fresh_process(uri, magnitude(70), tmp_path)
    assert (found["engine"], found["names"]) == ("openvino", ["features", "z_pred"])
    assert found["absent"] == ["torch", "onnx", "onnxruntime"]
    out = np.array(found["out"])
    np.testing.assert_allclose(out[:, 3:], expected_of_perceptron(magnitude(70)), rtol=1e-5, atol=1e-5)


def test_trees_run_on_onnxruntime_as_scikit_learn_grows_them(tmp_path: Path):
    rng = np.random.default_rng(0)
    trained = ExtraTreesRegressor(10, max_depth=6, random_state=0).fit(magnitude(300), rng.random(300))
    uri = _converted(_onnx(tmp_path, trees(trained)), tmp_path, RunOptions())
    found = _in_a_fresh_process(uri, magnitude(70), tmp_path)
    assert found["engine"] == "onnxruntime"
    assert "openvino does not convert it" in str(found["reason"])
    assert "torch" in found["absent"]
    np.testing.assert_allclose(np.array(found["out"])[:, 0], trained.predict(magnitude(70)), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RunOptions(engine="torch"), "the torch engine does not run an ONNX model; use --engine auto"),
        (RunOptions(precision="int8"), "precision 'int8' is for AstroMAE"),
    ],
)
def test_engines_that_cannot_run_an_onnx_model_are_refused(tmp_path: Path, options: RunOptions, sentence: str):
    with pytest.raises(BadInput, match=sentence):
        create_engine(_onnx(tmp_path, perceptron()), options, threads=1)
