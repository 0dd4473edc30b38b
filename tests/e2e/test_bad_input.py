"""What a user can get wrong: one sentence, the right exit code, nothing half-written. Through the real command."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from skyfan.cli import main
from skyfan.errors import SkyfanError
from skyfan.formats.torch import write_tensorfile
from tests.conftest import make_sample
from tests.e2e.support import predictions


@dataclass
class Answer:
    code: int
    stderr: str


@pytest.fixture
def skyfan(monkeypatch, capsys, tmp_path):
    """The command's entry point, called in this process; S3 is an address where nobody listens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "us-east-1")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["skyfan", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return Answer(int(stopped.value.code or 0), " ".join(capsys.readouterr().err.split()))

    return call


class Exploit:
    def __reduce__(self):
        return os.system, ("touch executed",)


def truncated(folder):
    path = make_sample(folder / "bad.pt", 20).path
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def wrong_shape(folder):
    path = folder / "bad.pt"
    write_tensorfile(path, [np.zeros((9, 5, 16, 16), np.float32), np.zeros((9, 5), np.float32)])
    return path


def missing_tensor(folder):
    path = folder / "bad.pt"
    write_tensorfile(path, [np.zeros((9, 5, 32, 32), np.float32)])
    return path


def empty(folder):
    import torch

    path = folder / "bad.pt"
    torch.save([torch.zeros(0, 5, 32, 32), torch.zeros(0, 5)], path)
    return path


def hostile(folder):
    import torch

    path = folder / "bad.pt"
    torch.save({"image": torch.zeros(3, 5, 32, 32), "x": Exploit()}, path)
    return path


def three_bands(folder):
    path = folder / "bad.pt"
    write_tensorfile(path, [np.zeros((9, 3, 32, 32), np.float32), np.zeros((9, 5), np.float32)])
    return path


def complex_pixels(folder):
    path = folder / "bad.pt"
    write_tensorfile(path, [np.zeros((9, 5, 32, 32), np.complex64), np.zeros((9, 5), np.float32)])
    return path


def complex_redshifts(folder):
    path = folder / "bad.pt"
    arrays = [np.zeros((9, 5, 32, 32), np.float32), np.zeros((9, 5), np.float32), np.zeros(9, np.complex64)]
    write_tensorfile(path, arrays)
    return path


def npz_of(*row_shape, name="image"):
    def make(folder):
        path = folder / "bad.npz"
        images = {name: np.zeros((9, *row_shape), np.float32)}
        np.savez(path, **images, magnitude=np.zeros((9, 5), np.float32))
        return path

    return make


def bare_pickle(folder):
    path = folder / "bad.pt"
    path.write_bytes(pickle.dumps(Exploit()))
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (three_bands, "0 float32 [9, 3, 32, 32], 1 float32 [9, 5]"),
        (npz_of(5, 32, 32, name="flux"), "--inputs image=COLUMN"),
        (npz_of(32, 32, 5), "has [samples, 32, 32, 5]; --axes image=NHWC"),
        (npz_of(5120), "--shape image=5,32,32"),
        (npz_of(5, 64, 48), "--crop image=32,32"),
        (npz_of(6, 32, 32), "--bands image=0,1,2,3,4"),
        (complex_pixels, "real numbers"),
        (complex_redshifts, "whose imaginary part would be dropped"),
        (bare_pickle, "weights_only=True"),
        (truncated, "bad.pt"),
        (wrong_shape, "32, 32"),
        (missing_tensor, "bad.pt does not fit the model"),
        (empty, "bad.pt"),
        (hostile, "posix.system"),
    ],
)
def test_bad_datasets(skyfan, make, said, small_model, tmp_path):
    path = make(tmp_path)
    answer = skyfan("run", "--dataset", path, "--model", small_model, "--output", tmp_path / "run", "--on", "process")
    assert answer.code == 2, answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stderr.startswith("skyfan: ")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "gopher://x/y.pt"], "gopher"),
        (["--dataset", "s3://no-such-bucket/y.pt"], "s3://no-such-bucket"),
        (["--dataset", "nowhere.pt"], "nowhere.pt"),
        (["--dataset", "nowhere"], "nowhere does not exist"),
        (["--dataset", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--dataste", "sky.pt"], "see skyfan run --help"),
        (["--dataset", "sky.pt", "--batch-size", "0"], "--batch-size"),
        (["--dataset", "sky.pt", "--partition-size", "soon"], "--partition-size"),
        (["--dataset", "sky.pt", "--world-size", "-3"], "--world-size"),
        (["--dataset", "sky.pt", "--world-size", "1000001"], "more than the 1,000,000 ranks"),
        (["--dataset", "sky.pt", "--model", "nowhere.pt"], "nowhere.pt"),
        (["--dataset", "sky.pt", "--on", "moon"], "moon"),
        (["--dataset", "sky.pt", "--engine", "steam"], "steam"),
        ([], "--dataset"),
    ],
)
def test_bad_options(skyfan, arguments, said, sample, small_model, tmp_path):
    options = arguments if "--model" in arguments else [*arguments, "--model", small_model]
    options = options if "--on" in options else [*options, "--on", "process"]
    answer = skyfan("run", *options, "--output", tmp_path / "run")
    assert answer.code == 2, answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "run").exists()


def test_an_output_below_a_file_is_refused_by_what_is_wrong(skyfan, sample, small_model, tmp_path):
    (tmp_path / "taken").write_text("mine")
    command = ["run", "--dataset", sample.path, "--model", small_model, "--on", "process", "--output", "taken"]
    for answer in (skyfan(*command), skyfan("partition", "--dataset", sample.path, "--output", "taken")):
        assert answer.code == 2
        assert "a part of its path is a file" in answer.stderr
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"\xff\xfe", [], "is not JSON"),
        (
            b'{"dataset": "x.pt", "output": "run"}',
            ["--batch-size", "3"],
            "--batch-size cannot be given beside --payload",
        ),
        (b'{"dataset": "x.pt", "output": "run"}', ["--dataset", "y.pt"], "--dataset cannot be given beside --payload"),
    ],
)
def test_bad_payloads(skyfan, tmp_path, content, arguments, said):
    (tmp_path / "payload.json").write_bytes(content)
    answer = skyfan("run", "--payload", "payload.json", *arguments)
    assert answer.code == 2, answer.stderr
    assert said in answer.stderr


def test_compose_without_containers_says_so_soon(skyfan, sample, small_model, monkeypatch):
    monkeypatch.setattr("skyfan.backends.compose.NETWORK_DEADLINE_S", 0.0)
    monkeypatch.setenv("SKYFAN_PARTITIONER", "partitioner.invalid:50051")
    answer = skyfan("run", "--dataset", sample.path, "--model", small_model, "--on", "compose")
    assert answer.code == 2
    assert "no host 'partitioner.invalid'" in answer.stderr


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda torch: torch.nn.Linear(5, 1).state_dict(), "not the weights of an AstroMAE"),
        (lambda torch: [1, 2], "neither a state dict nor a module (a list)"),
    ],
)
def test_other_models_are_told_what_they_are(skyfan, sample, tmp_path, model, said):
    import torch

    torch.save(model(torch), tmp_path / "m.pt")
    answer = skyfan("run", "--dataset", sample.path, "--model", "m.pt", "--on", "process")
    assert answer.code == 2
    assert said in answer.stderr
    assert ".." not in answer.stderr


def test_a_hostile_model_is_refused_by_name_and_not_executed(skyfan, sample, tmp_path):
    import torch

    path = tmp_path / "evil.pt"
    torch.save(Exploit(), path)
    answer = skyfan("run", "--dataset", sample.path, "--model", path, "--output", tmp_path / "run", "--on", "process")
    assert answer.code == 2
    assert "posix.system" in answer.stderr
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_nan_pixels_are_missing_samples_and_exit_code_3(skyfan, sample, small_model, tmp_path):
    image = sample.image.copy()
    image[[4, 50], 2, 7, 7] = [np.nan, np.inf]
    write_tensorfile(sample.path, [image, sample.magnitude, sample.redshift])
    answer = skyfan("run", "--dataset", sample.path, "--model", small_model, "--output", "run", "--on", "process")
    assert answer.code == 3, answer.stderr
    table = predictions(tmp_path / "run")
    assert [index for index, z in enumerate(table["z_pred"].to_pylist()) if z is None] == [4, 50]
    assert "2 samples have no prediction" in answer.stderr


def test_exit_codes_tell_another_run_and_a_failed_run_apart(skyfan, sample, small_model, tmp_path, monkeypatch):
    command = ["run", "--dataset", sample.path, "--model", small_model, "--on", "process", "--quiet"]
    assert skyfan(*command, "--output", "run").code == 0
    other = skyfan(*command, "--output", "run", "--world-size", 3)
    assert other.code == 2
    assert "world size was 1, is 3" in other.stderr
    assert "Choose another --output" in other.stderr
    assert "batch size was 512, is 4." in skyfan(*command, "--output", "run", "--batch-size", 4).stderr

    def lost(*_arguments):
        raise SkyfanError("the executor broke")

    monkeypatch.setattr("skyfan.backends.process.infer", lost)
    assert skyfan(*command, "--output", "other").code == 4


def test_a_folder_with_the_same_data_in_two_sizes_is_not_one_dataset(skyfan, sample, tmp_path):
    for size in ("10MB", "25MB"):
        (tmp_path / "data" / size).mkdir(parents=True)
        (tmp_path / "data" / size / "1.pt").write_bytes(sample.path.read_bytes())
    answer = skyfan("plan", "--dataset", "data")
    assert answer.code == 2
    assert "name one of them" in answer.stderr


def test_the_installed_command_says_it_in_one_line_without_a_traceback(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-m", "skyfan.cli", "plan", "--dataset", "nowhere.pt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1
    assert answer.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("on", ["process", "local"])
def test_the_device_that_was_asked_for_is_the_one_that_computes(skyfan, sample, small_model, on):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has the GPU that the test wants to miss")
    given = ("run", "--dataset", sample.path, "--model", small_model, "--output", "out", "--on", on)
    answer = skyfan(*given, "--device", "cuda")
    assert answer.code == 2
    assert "the device 'cuda' cannot be used" in answer.stderr
    assert skyfan(*given, "--device", "cpu", "--quiet").code == 0


def test_a_device_where_it_cannot_be_chosen_is_refused(skyfan, sample):
    given = ("run", "--dataset", sample.path, "--output", "out", "--device")
    assert "--device is 'toaster'; choose one of auto, cpu, cuda." in skyfan(*given, "toaster").stderr
    assert "--device is for process and local" in skyfan(*given, "cuda", "--on", "aws").stderr
    assert "set SKYFAN_DEVICE of the executors' containers" in skyfan(*given, "cuda", "--on", "compose").stderr
