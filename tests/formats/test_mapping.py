"""Columns under other names and in other layouts are read as if they had been saved as the model takes them."""

import h5py
import numpy as np
import pytest

from skyfan.errors import BadInput, DatasetError
from skyfan.formats.dataset import first_layout, read_layouts
from skyfan.formats.rows import read_rows
from skyfan.job import Job
from skyfan.planning import run_identity
from tests.conftest import Sample
from tests.e2e.support import make_job, predictions, run


def survey_file(sample: Sample, path, chunks=None):
    """Galaxies as an imaging survey might have them: channels last, large, in steps of 1/16, under its own names."""
    steps = np.round(sample.image * 16).clip(-128, 127).astype(np.int8)
    frame = np.zeros((len(steps), 40, 48, 6), np.int8)
    frame[:, 4:36, 8:40, 1:] = steps.transpose(0, 2, 3, 1)
    with h5py.File(path, "w") as file:
        file.create_dataset("flux", data=frame, chunks=chunks, compression="gzip" if chunks else None)
        file["mag"] = sample.magnitude
        file["z_spec"] = sample.redshift
    return steps


OPTIONS = {
    "inputs": "image=flux,magnitude=mag",
    "target": "redshift=z_spec",
    "axes": "image=NHWC",
    "bands": "image=1,2,3,4,5",
    "crop": "image=32",
    "scale": "image=0.0625",
}


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, (10, 20, 48, 6)])
def test_a_survey_file_is_predicted_as_the_images_that_it_holds(sample, small_model, tmp_path, chunks):
    steps = survey_file(sample, tmp_path / "survey.h5", chunks)
    np.savez(tmp_path / "same.npz", image=steps.astype("f4") / 16, magnitude=sample.magnitude, redshift=sample.redshift)
    whole = {"world_size": 1, "partition_size_bytes": "file"}
    run(make_job(tmp_path / "survey.h5", small_model, tmp_path / "a", **whole, **OPTIONS))
    run(make_job(tmp_path / "same.npz", small_model, tmp_path / "b", **whole))
    assert predictions(tmp_path / "a").equals(predictions(tmp_path / "b"))


def test_a_flat_list_gets_its_shape(sample, tmp_path):
    np.savez(tmp_path / "flat.npz", image=sample.image.reshape(len(sample.image), -1))
    job = Job(dataset=str(tmp_path / "flat.npz"), shape=["image=5,32,32"])
    (file,) = read_layouts(job.dataset, columns=job)
    np.testing.assert_array_equal(read_rows(file, "image", 3, 9), sample.image[3:9])


def test_options_are_part_of_the_identity(sample):
    job = Job(dataset=str(sample.path))
    files = read_layouts(job.dataset, columns=job)
    changed = job.model_copy(update={"crop": ("image=16",)})
    assert run_identity(files, (), "m", job.options) != run_identity(files, (), "m", changed.options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": "image=flux"}, "has no column 'flux' for image; it holds image, magnitude, redshift"),
        ({"target": "z"}, "has no column 'z' for redshift"),
        ({"shape": "image=5,32,33"}, "a sample has 5120 values, not 5280"),
        ({"axes": "magnitude=NHWC"}, "a sample has 1 dimensions, not 3"),
        ({"bands": "image=5"}, r"bands \[5\] are not all in \[5, 32, 32\]"),
        ({"crop": "image=33"}, "is not inside"),
        ({"crop": "picture=33"}, "--crop names the column 'picture'"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(sample, options, words):
    with pytest.raises(DatasetError, match=words):
        first_layout(str(sample.path), Job(dataset="x", **options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": "image"}, "write COLUMN=VALUE"),
        ({"shape": "image=5,0"}, "sizes above zero"),
        ({"axes": "image=HWC"}, "such as NHWC"),
        ({"scale": "image=0"}, "write the scale"),
        ({"crop": ["image=1", "image=2"]}, "each column once"),
        ({"target": "z=z_spec"}, "write a column"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_job(options, words):
    with pytest.raises(BadInput, match=words):
        Job.checked({"dataset": "x", **options})
