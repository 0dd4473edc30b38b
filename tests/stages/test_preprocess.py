"""Declared preprocessing: what each step does, what is refused, and what a run makes of it."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from skyfan.cli import app
from skyfan.errors import BadInput, DatasetError
from skyfan.formats.catalog import planned_spec
from skyfan.formats.registry import open_file
from skyfan.formats.tables import Kind
from skyfan.job import Job
from skyfan.models import load_model
from skyfan.runs.folder import RunFolder
from skyfan.stages.calibration import first_samples
from skyfan.stages.preprocess import Preprocessing
from tests.e2e.support import make_job, predictions, run

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(1, 2, (6, 3, 4, 4)).astype(np.float32)
MAGNITUDE = RNG.normal(20, 1, (6, 3)).astype(np.float32)
EBV = RNG.random((6, 1)).astype(np.float32)
R = np.array([4.239, 3.303, 2.285])
PER_BAND = np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)


def taken(*steps, reasons=None):
    preprocessing = Preprocessing(Job(dataset="x.pt", preprocess=steps))
    reasons = np.full(6, None, np.object_) if reasons is None else reasons
    return preprocessing.apply(["image", "magnitude"], [IMAGE, MAGNITUDE], {"ebv": EBV}, reasons)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("image=asinh:0.1", np.arcsinh(IMAGE / 0.1)),
        ("image=asinh:1,2,4", np.arcsinh(IMAGE / PER_BAND)),
        ("image=log:20", np.log10(IMAGE + 20)),
        ("image=clip:-1,1.5", np.clip(IMAGE, -1, 1.5)),
        ("image=standardise:1,2,4;2", (IMAGE - PER_BAND) / 2),
        ("image=deredden-flux:ebv;4.239,3.303,2.285",
         IMAGE * 10 ** (0.4 * R.reshape(1, 3, 1, 1) * EBV.reshape(6, 1, 1, 1))),
    ],
)  # fmt: skip
def test_what_a_step_does(step, expected):
    before = IMAGE.copy()
    image, magnitude = taken(step)
    np.testing.assert_allclose(image, expected, rtol=2e-6, atol=2e-6)
    assert (image.dtype, magnitude is MAGNITUDE) == (np.float32, True)
    np.testing.assert_array_equal(IMAGE, before)


def test_magnitudes_are_dereddened_and_steps_follow_each_other():
    _, magnitude = taken("magnitude=deredden:ebv;4.239,3.303,2.285", "magnitude=standardise:20;2")
    np.testing.assert_allclose(magnitude, (MAGNITUDE - EBV * R - 20) / 2, rtol=2e-6, atol=2e-6)


def test_rows_that_a_step_is_not_defined_for_have_a_reason():
    reasons = np.full(6, None, np.object_)
    reasons[0] = "known before"
    image, _ = taken("image=log:0", reasons=reasons)
    assert np.isfinite(image).all()
    assert reasons[0] == "known before"
    assert reasons[1] == "NaN or infinite values in image after --preprocess"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("image=square", "write COLUMN=asinh"),
        ("image", "write COLUMN=asinh"),
        ("image=asinh:0", "above 0"),
        ("image=asinh:nan", "must be finite"),
        ("image=clip:5,0", "lowest and the highest"),
        ("image=standardise:1,2", "write COLUMN=asinh"),
        ("image=standardise:1,2;1,2,3", "for 2 and for 3 bands"),
        ("image=deredden:;1", "write COLUMN=asinh"),
    ],
)
def test_what_is_no_step_is_refused(step, why):
    with pytest.raises(BadInput, match=why):
        Job.checked({"dataset": "x.pt", "preprocess": [step]})


@pytest.fixture
def reddened(tmp_path, sample):
    """The sample's galaxies as a survey stores them, with a column of E(B-V)."""
    ebv = np.linspace(0, 0.3, len(sample.image), dtype=np.float32)
    columns = {
        "image": (np.sinh(sample.image) * 0.5).astype(np.float32),
        "magnitude": sample.magnitude + 2 * ebv[:, None],
        "ebv": ebv,
    }
    torch.save({name: torch.from_numpy(values) for name, values in columns.items()}, tmp_path / "survey.pt")
    return tmp_path / "survey.pt"


@pytest.mark.slow
def test_a_run_predicts_on_what_was_preprocessed(reddened, small_model, expected_z, tmp_path):
    steps = ("image=asinh:0.5", "magnitude=deredden:ebv;2")
    job = make_job(reddened, small_model, tmp_path / "run", preprocess=steps)
    summary = run(job)
    np.testing.assert_allclose(predictions(tmp_path / "run")["z_pred"].to_numpy(), expected_z, atol=1e-4)
    assert tuple(summary.options["preprocess"]) == steps
    assert RunFolder(job.output).read_plan().job.preprocess == steps
    with pytest.raises(BadInput, match="preprocess"):
        run(job.model_copy(update={"preprocess": ()}))


@pytest.mark.slow
def test_extinction_may_come_from_a_catalogue_and_a_galaxy_without_one_has_no_prediction(
    reddened, small_model, expected_z, tmp_path
):
    columns = torch.load(reddened, weights_only=True)
    ebv = [f"{value:.9f}" for value in columns.pop("ebv").tolist()]
    ebv[7] = ""
    torch.save(columns, tmp_path / "sky.pt")
    (tmp_path / "dust.csv").write_text("\n".join(["name,ebv", *(f"g{at},{text}" for at, text in enumerate(ebv))]))
    steps = ("image=asinh:0.5", "magnitude=deredden:ebv;2")
    job = make_job(tmp_path / "sky.pt", small_model, tmp_path / "run", preprocess=steps)
    run(job.model_copy(update={"catalog": str(tmp_path / "dust.csv")}))
    table = predictions(tmp_path / "run")
    assert table["missing"][7].as_py() == "NaN or infinite values in magnitude after --preprocess"
    keep = np.arange(len(expected_z)) != 7
    np.testing.assert_allclose(table["z_pred"].to_numpy()[keep], expected_z[keep], atol=1e-4)


def test_samples_of_a_catalogue_that_is_not_joined_yet_are_not_read(sample):
    file = open_file(str(sample.path))
    planned = planned_spec("ebv", Kind("float32", ()), file.samples)
    file = file.model_copy(update={"tensors": (*file.tensors, planned)})
    options = Job(dataset="x.pt", preprocess=["magnitude=deredden:ebv;2"])
    assert first_samples(file, load_model("demo"), options) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("flux=asinh:1", "none of the model's inputs: image, magnitude"),
        ("image=asinh:1,2", "numbers for 2 bands, and image of .* has 5"),
        ("magnitude=deredden:dust;1", "no tensor 'dust'"),
        ("magnitude=deredden:image;1", "image is not one number a sample"),
    ],
)
def test_a_step_that_does_not_fit_the_data_is_refused_before_anything_is_written(
    reddened, small_model, tmp_path, step, why
):
    with pytest.raises(DatasetError, match=why):
        run(make_job(reddened, small_model, tmp_path / "run", preprocess=[step]))
    assert not (tmp_path / "run").exists()


def test_plan_shows_the_steps(sample):
    arguments = ["plan", "--dataset", str(sample.path), "--preprocess", "image=asinh:0.1"]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "before the model: asinh(image / 0.1)" in shown.stdout
