"""`simulate` writes the reference layout, the same bytes for the same seed, and nothing when it fails."""

import hashlib
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skyfan.errors import BadInput
from skyfan.formats.torch import open_tensorfile
from skyfan.sky import load_catalog, simulate
from skyfan.sky.simulate import SIMULATED, TRAINED


@pytest.fixture(scope="module")
def small_catalog():
    return load_catalog().take(np.arange(40))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, small_catalog):
    return simulated(tmp_path_factory.mktemp("sky") / "sky.pt", small_catalog)


def simulated(path, catalog, n=90, seed=7, processes=1):
    simulate(n, seed, path, catalog, processes=processes)
    return path


def tensors(path):
    with torch.serialization.safe_globals([TensorDataset]):
        return [tensor.numpy() for tensor in torch.load(path, weights_only=True).tensors]


@pytest.mark.slow
def test_the_file_tells_of_galaxies_that_the_packaged_model_knows(tmp_path, small_catalog, dataset):
    known, training = tmp_path / "known.pt", np.arange(40) % 20 == 1
    simulate(90, 7, known, small_catalog, processes=1, training=training)
    assert open_tensorfile(dataset).note == SIMULATED
    assert open_tensorfile(dataset).names == ("image", "magnitude", "redshift")
    assert open_tensorfile(known).note == SIMULATED + TRAINED.format(5, 90)
    assert open_tensorfile(known).names == ("image", "magnitude", "redshift", "in_training_sample")
    with torch.serialization.safe_globals([TensorDataset]):
        marks = torch.load(known, weights_only=True).in_training_sample
    assert np.flatnonzero(marks).tolist() == [1, 21, 41, 61, 81]
    assert [one.tobytes() for one in tensors(known)] == [one.tobytes() for one in tensors(dataset)]


@pytest.mark.slow
def test_layout_is_the_references(dataset):
    image, magnitude, redshift = tensors(dataset)
    assert (image.shape, magnitude.shape, redshift.shape) == ((90, 5, 32, 32), (90, 5), (90,))
    assert {image.dtype, magnitude.dtype, redshift.dtype} == {np.dtype("float32")}
    assert np.isfinite(image).all()


def test_first_round_holds_the_measured_values(dataset, small_catalog):
    _, magnitude, redshift = tensors(dataset)
    np.testing.assert_array_equal(magnitude[:40], small_catalog.magnitude.astype(np.float32))
    np.testing.assert_array_equal(redshift, np.tile(small_catalog.redshift, 3)[:90].astype(np.float32))


def test_later_rounds_are_new_galaxies_within_the_measured_errors(dataset, small_catalog):
    image, magnitude, _ = tensors(dataset)
    pull = (magnitude[40:80] - small_catalog.magnitude) / small_catalog.magnitude_error
    assert 0.8 < pull.std() < 1.2
    assert np.abs(pull).max() < 5
    signal = image[:, 2].reshape(90, -1) - image[:, 2].mean(axis=(1, 2))[:, None]
    assert not np.allclose(signal[:40], signal[40:80], atol=0.2)


@pytest.mark.slow
def test_no_two_galaxies_share_their_randomness(tmp_path, small_catalog):
    one_row = small_catalog.take(np.array([0]))
    image = tensors(simulated(tmp_path / "sky.pt", one_row, n=130))[0]
    assert len(np.unique(image.reshape(130, -1), axis=0)) == 130


@pytest.mark.slow
def test_same_bytes_whatever_the_number_of_processes(tmp_path, dataset, small_catalog):
    again = simulated(tmp_path / "sky.pt", small_catalog, n=90, seed=7, processes=2)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(dataset.read_bytes()).digest()


def test_another_seed_is_another_sky_of_the_same_galaxies(tmp_path, dataset, small_catalog):
    other = simulated(tmp_path / "sky.pt", small_catalog, n=40, seed=8, processes=1)
    assert not np.array_equal(tensors(other)[0], tensors(dataset)[0][:40])
    np.testing.assert_array_equal(tensors(other)[1], tensors(dataset)[1][:40])


def test_a_longer_dataset_starts_with_the_shorter_one(tmp_path, dataset, small_catalog):
    short = simulated(tmp_path / "sky.pt", small_catalog, n=10, seed=7, processes=1)
    np.testing.assert_array_equal(tensors(short)[0], tensors(dataset)[0][:10])


def test_progress_reaches_the_end(tmp_path, small_catalog):
    steps = []
    simulate(70, 7, tmp_path / "sky.pt", small_catalog, processes=1, progress=lambda done, n: steps.append((done, n)))
    assert steps == [(64, 70), (70, 70)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_simulation_leaves_nothing_behind(tmp_path, small_catalog, processes):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(200, 7, tmp_path / "sky.pt", small_catalog, processes=processes, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "galaxies 0 must be at least 1"),
        ({"seed": -1}, "seed -1 must not be negative"),
        ({"processes": 0}, "processes 0 must be at least 1"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, small_catalog, arguments, message):
    good = {"n": 1, "seed": 7, "out": tmp_path / "sky.pt", "catalog": small_catalog}
    with pytest.raises(BadInput, match=message):
        simulate(**(good | arguments))


@pytest.mark.slow
def test_workers_do_not_load_torch():
    code = "import sys, skyfan.sky.simulate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
