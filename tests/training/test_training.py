"""Training learns, repeats itself, resumes, and leaves a plain model that takes raw inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skyfan.errors import BadInput, DatasetError
from skyfan.formats.torch import write_tensorfile
from skyfan.models.astromae import AstroMAE
from skyfan.models.loading import load_model
from skyfan.science.metrics import science_metrics
from skyfan.training.comparison import compare, predict
from skyfan.training.loop import train
from skyfan.training.samples import Samples, read_samples, split_by_galaxy
from skyfan.training.saving import trained_bytes
from skyfan.training.standardise import fit_standardisation, fold
from skyfan.training.training_settings import EpochResult, Trained, TrainingSettings
from tests.models.support import TINY

pytestmark = pytest.mark.slow

SETTINGS = TrainingSettings(epochs=3, batch_size=32, learning_rate=5e-3, validation_fraction=0.2)


def galaxies(count: int = 240, seed: int = 0) -> Samples:
    """Galaxies whose redshift follows from a colour, on top of a bright and a faint band."""
    rng = np.random.default_rng(seed)
    redshift = rng.uniform(0.02, 0.3, count)
    magnitude = (
        np.array([19.5, 18.0, 17.2, 16.8, 16.5]) + rng.normal(0, 0.8, (count, 1)) + redshift[:, None] * [3, 1, 0, 0, -1]
    )
    magnitude += rng.normal(0, 0.02, magnitude.shape)
    flux = 10 ** (0.4 * (22.5 - magnitude))[:, :, None, None] / 1024
    image = flux * rng.uniform(0.5, 1.5, (count, 5, 32, 32)) + np.array([3.0, 0, 0, 0, -2.0])[:, None, None]
    return Samples(image.astype(np.float32), magnitude.astype(np.float32), redshift.astype(np.float32))


def _model_predictions(model: AstroMAE, samples: Samples) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(samples.image), torch.from_numpy(samples.magnitude))[:, 0].numpy()


def test_folding_gives_the_same_predictions_from_raw_inputs():
    samples = galaxies(64)
    torch.manual_seed(0)
    model, standardisation = AstroMAE(TINY).eval(), fit_standardisation(samples)
    image, magnitude = torch.from_numpy(samples.image), torch.from_numpy(samples.magnitude)
    with torch.inference_mode():
        output = model(standardisation.image(image), standardisation.magnitude(magnitude.double()).float())
        expected = standardisation.redshift(output)
        torch.testing.assert_close(fold(model, standardisation)(image, magnitude), expected, atol=2e-5, rtol=0)
    assert not torch.equal(model.concat_block[2].weight, fold(model, standardisation).concat_block[2].weight)


@pytest.mark.slow
def test_training_learns_redshifts_of_galaxies_that_it_has_not_seen():
    settings = replace(SETTINGS, epochs=12)
    model = train(galaxies(), TINY, settings).model
    unseen = galaxies(200, seed=1)
    metrics = science_metrics(_model_predictions(model, unseen), unseen.redshift)
    assert metrics is not None
    assert metrics.r2 > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    samples = galaxies(100)
    first, second = (train(samples, TINY, SETTINGS).model.state_dict() for _ in range(2))
    other = train(samples, TINY, replace(SETTINGS, seed=8)).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


class _Stop(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_training_resumes_to_the_same_model(tmp_path: Path):
    samples, state = galaxies(100), tmp_path / "state.safetensors"
    whole = train(samples, TINY, SETTINGS)
    seen: list[int] = []

    def stop_after_two(result: EpochResult, _trained: Trained) -> None:
        seen.append(result.epoch)
        if result.epoch == 2:
            raise _Stop

    with pytest.raises(_Stop):
        train(samples, TINY, SETTINGS, state_path=state, report=stop_after_two)
    resumed = train(samples, TINY, SETTINGS, state_path=state, report=lambda result, _: seen.append(result.epoch))
    assert seen == [1, 2, 3]
    assert replace(resumed.best, seconds=0) == replace(whole.best, seconds=0)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())
    with pytest.raises(BadInput, match="other data or settings"):
        train(samples, TINY, replace(SETTINGS, seed=9), state_path=state)
    rendered_again = replace(samples, image=samples.image + 1)
    with pytest.raises(BadInput, match="other data or settings"):
        train(rendered_again, TINY, SETTINGS, state_path=state)


def test_renderings_of_one_galaxy_are_never_on_both_sides():
    redshift = np.tile(np.linspace(0.01, 0.2, 50, dtype=np.float32), 3)
    rows, held_out = split_by_galaxy(redshift, 0.2, np.random.default_rng(0))
    assert len(held_out) == 30
    assert not set(redshift[rows]) & set(redshift[held_out])
    assert sorted([*rows, *held_out]) == list(range(150))


def test_samples_that_are_not_finite_are_left_out_and_counted(tmp_path: Path):
    samples = galaxies(20)
    samples.image[3, 0, 0, 0] = np.nan
    samples.redshift[7] = np.inf
    write_tensorfile(tmp_path / "d.pt", [samples.image, samples.magnitude, samples.redshift])
    read = read_samples(str(tmp_path / "d.pt"))
    assert (len(read), read.dropped) == (18, 2)
    np.testing.assert_array_equal(read.redshift, np.delete(samples.redshift, [3, 7]))


def test_data_that_cannot_be_learned_from_is_refused(tmp_path: Path):
    samples = galaxies(40)
    with pytest.raises(DatasetError, match="do not vary"):
        fit_standardisation(replace(samples, image=np.zeros_like(samples.image)))
    with pytest.raises(DatasetError, match=r"takes images \[5, 32, 32\]"):
        train(replace(samples, image=samples.image[:, :3]), TINY, SETTINGS)
    write_tensorfile(tmp_path / "two.pt", [samples.image, samples.magnitude])
    with pytest.raises(DatasetError, match="no tensor 'redshift'"):
        read_samples(str(tmp_path / "two.pt"))


def test_settings_that_cannot_train_are_refused():
    with pytest.raises(BadInput, match="batch size must be above 0, not 0"):
        replace(SETTINGS, batch_size=0)
    with pytest.raises(BadInput, match="validation fraction must be between 0 and 1"):
        replace(SETTINGS, validation_fraction=1.0)


@pytest.mark.slow
def test_a_trained_model_is_compared_with_trees_on_unseen_galaxies(tmp_path: Path):
    samples, unseen = galaxies(), galaxies(60, seed=1)
    trained = train(samples, TINY, SETTINGS)
    path = tmp_path / "model.safetensors"
    path.write_bytes(trained_bytes(trained, SETTINGS, "0" * 64))
    loaded = load_model(str(path))
    np.testing.assert_allclose(predict(loaded, unseen), _model_predictions(trained.model, unseen), atol=1e-6)
    assert '"seed": 7' in loaded.metadata["training"]
    result = compare(loaded, samples, unseen)
    assert result.trees.r2 > 0.7
    assert (result.training_samples, result.test_samples) == (240, 60)
    with pytest.raises(DatasetError, match="5 galaxies are in the training set and in the test set"):
        compare(loaded, samples, samples.take(np.arange(5)))
