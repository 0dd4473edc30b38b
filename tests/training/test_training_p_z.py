"""Training for p(z) and from a checkpoint: what it keeps, what it learns, and how it is stopped."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from skyfan.errors import BadInput, Interrupted
from skyfan.models.astromae import AstroMAE
from skyfan.training.curve import verdict
from skyfan.training.loop import train
from skyfan.training.losses import mixture_loss
from skyfan.training.samples import Samples
from skyfan.training.saving import TrainingFiles
from skyfan.training.standardise import fit_standardisation, fold, unfold
from skyfan.training.training_settings import EpochResult, TrainingSettings
from tests.models.support import TINY, tiny_model
from tests.training.test_training import SETTINGS, galaxies

HEAD = replace(SETTINGS, loss="mixture", head_only=True, initial_sha256="given", epochs=6, learning_rate=2e-2)


def _outputs(model: AstroMAE, samples: Samples) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(samples.image), torch.from_numpy(samples.magnitude)).double().numpy()


def test_the_mixture_loss_is_the_negative_log_likelihood():
    rng = np.random.default_rng(0)
    mean, log_sigma, logits = rng.normal(size=(3, 5, 4))
    wanted = rng.normal(size=5)
    weight = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log((weight * stats.norm.pdf(wanted[:, None], mean, np.exp(log_sigma))).sum(1)).mean()
    raw = torch.from_numpy(np.hstack([mean, log_sigma, logits]))
    assert mixture_loss(raw, torch.from_numpy(wanted)).item() == pytest.approx(expected)


@pytest.mark.parametrize("components", [0, 2])
def test_unfolding_takes_folding_back(components: int):
    torch.manual_seed(0)
    model, standardisation = AstroMAE(replace(TINY, mixture=components)).eval(), fit_standardisation(galaxies(64))
    back = unfold(fold(model, standardisation), standardisation).state_dict()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(back[name], values, atol=1e-4, rtol=1e-4)


def test_training_the_head_alone_keeps_the_redshift_and_learns_p_z():
    samples = galaxies()
    point = train(samples, TINY, replace(SETTINGS, epochs=8)).model
    trained = train(samples, point, HEAD)
    before, after = _outputs(point, samples), _outputs(trained.model, samples)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-6)
    mean, sigma, weight = np.split(after[:, 1:], 3, axis=1)
    assert (sigma > 0).all()
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-5)
    pit = (weight * stats.norm.cdf((samples.redshift[:, None] - mean) / sigma)).sum(1)
    assert 0.5 < ((pit > 0.16) & (pit < 0.84)).mean() < 0.85
    losses = [result.validation_loss for result in trained.history]
    assert min(losses) < losses[0]


def test_a_whole_model_is_trained_further_for_p_z():
    trained = train(galaxies(100), tiny_model(), replace(SETTINGS, loss="mixture", components=2))
    assert trained.model.config.mixture == 2
    assert np.isfinite(_outputs(trained.model, galaxies(20))).all()


def test_a_training_that_is_stopped_within_an_epoch_resumes_to_the_same_model(tmp_path: Path):
    samples, state = galaxies(100), tmp_path / "state.safetensors"
    whole = train(samples, TINY, SETTINGS)
    asked = iter([False] * 3 + [True])  # two steps an epoch: the second of epoch 2 is not begun
    with pytest.raises(Interrupted, match="stopped in epoch 2 of 3"):
        train(samples, TINY, SETTINGS, state_path=state, stopping=lambda: next(asked))
    resumed = train(samples, TINY, SETTINGS, state_path=state)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())
    assert [replace(one, seconds=0) for one in resumed.history] == [replace(one, seconds=0) for one in whole.history]


def test_the_head_alone_needs_a_model_to_begin_with():
    with pytest.raises(BadInput, match="--head-only needs --from"):
        TrainingSettings(head_only=True)


def _history(*losses: tuple[float, float]) -> list[EpochResult]:
    lowest, found = np.inf, []
    for number, (training, validation) in enumerate(losses):
        found.append(EpochResult(number + 1, training, validation, 0.01, 0.8, validation < lowest, 1.0))
        lowest = min(lowest, validation)
    return found


def test_the_verdict_tells_overfitting_from_noise_and_from_too_few_epochs():
    assert "overfits after epoch 2" in verdict(_history((1, 1), (0.8, 0.9), (0.6, 0.95), (0.5, 1), (0.4, 1.1)))
    assert "too few came after it" in verdict(_history((1, 1), (0.8, 1.1)))
    assert "no overfitting" in verdict(_history((1, 1), (0.9, 0.9), (0.9, 0.901), (0.9, 0.902), (0.9, 0.9)))
    assert "more --epochs" in verdict(_history((1, 1), (0.9, 0.9)))


def test_the_curve_is_a_table_and_a_picture(tmp_path: Path):
    trained = train(galaxies(60), TINY, replace(SETTINGS, epochs=1))
    files = TrainingFiles(tmp_path / "m.safetensors")
    files.save_epoch(trained, b"best")
    assert files.best.read_bytes() == b"best"
    files.finish(trained, b"model")
    assert files.model.read_bytes() == b"model"
    assert sorted(path.name for path in files.folder.iterdir()) == ["curve.csv", "curve.png"]
    (row,) = csv.DictReader((files.folder / "curve.csv").read_text().splitlines())
    assert float(row["validation_loss"]) == trained.best.validation_loss
    assert (files.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
