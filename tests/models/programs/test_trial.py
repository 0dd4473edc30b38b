"""Programs in training mode, random ones and those whose rows see each other are refused before they predict."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from skyfan.errors import ModelError
from skyfan.models import load_model
from skyfan.models.programs.checked import checked_program
from tests.models.programs.corpus import export, image, magnitude

EVAL = r"call \.eval\(\) before exporting"


class Dropout(nn.Module):
    """Half of the magnitudes."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.line = nn.Dropout(0.5), nn.Linear(5, 1)

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.line(self.drop(magnitude))


class Attention(nn.Module):
    """Attention with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(5, 1, dropout=0.5, batch_first=True)

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(2).transpose(1, 2)
        return self.attention(x, x, x, need_weights=False)[0].mean((1, 2))


class Noise(nn.Module):
    """Adds noise."""

    def forward(self, magnitude: Tensor) -> Tensor:
        return magnitude + torch.randn_like(magnitude)


class BatchMean(nn.Module):
    """Each row less the mean of all: nothing that a list of operators could show."""

    def forward(self, magnitude: Tensor) -> Tensor:
        return (magnitude - magnitude.mean(0, keepdim=True)).sum(1, keepdim=True)


class StandardisedWeights(nn.Module):
    """Weights normalised by their own statistics: batch norm in training mode that sees no row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))

    def forward(self, magnitude: Tensor) -> Tensor:
        weight = nn.functional.batch_norm(self.weight.reshape(1, 4, 5), None, None, training=True)
        return magnitude @ weight.view(4, 5).T


@pytest.mark.parametrize(
    ("model", "example", "says"),
    [
        (Dropout(), magnitude(), "training mode .dropout"),
        (nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1)), magnitude(), "training mode|changes its own weights"),
        (nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4)), image(), "training mode|changes its own weights"),
        (nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False)), magnitude(), "batch_norm with training=True"),
        (Attention(), image(), "training mode .scaled_dot_product_attention"),
        (nn.Sequential(nn.RReLU()), magnitude(), "rrelu"),
        (Noise(), magnitude(), "draws random numbers .randn_like"),
    ],
)
def test_training_mode_is_found_in_the_graph(model: nn.Module, example: Tensor, says: str):
    with pytest.raises(ModelError, match=f"({says}).*{EVAL}"):
        checked_program(export(model, (example,), train=True), "train.pt2")


def test_the_same_models_in_evaluation_mode_are_fine():
    for model in (Dropout(), nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1)), StandardisedWeights()):
        assert checked_program(export(model, (magnitude(),)), "eval.pt2").inputs


@pytest.mark.slow
def test_rows_that_see_each_other_are_found_by_trial(tmp_path: Path):
    (tmp_path / "mean.pt2").write_bytes(export(BatchMean(), (magnitude(),)))
    with pytest.raises(ModelError, match=f"another prediction alone than among others.*{EVAL}"):
        load_model(str(tmp_path / "mean.pt2"))


@pytest.mark.slow
def test_randomness_that_is_asked_for_is_repeatable(tmp_path: Path):
    data = export(Dropout(), (magnitude(),), train=True)
    (tmp_path / "drop.pt2").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    first, second, other = (
        load_model(str(tmp_path / "drop.pt2"), random_seed=seed, planned_digest=tried).predict(magnitude())
        for seed, tried in ((1, None), (1, digest), (2, digest))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_the_callers_own_random_numbers_are_not_touched(tmp_path: Path):
    (tmp_path / "drop.pt2").write_bytes(export(Dropout(), (magnitude(),), train=True))
    model = load_model(str(tmp_path / "drop.pt2"), random_seed=1)
    before = torch.get_rng_state()
    model.predict(magnitude())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True], ids=["draws nothing", "draws"])
def test_a_seed_does_not_let_rows_see_each_other(tmp_path: Path, *, train: bool):
    model = nn.Sequential(nn.Dropout(0.5), BatchMean())
    (tmp_path / "mean.pt2").write_bytes(export(model, (magnitude(),), train=train))
    with pytest.raises(ModelError, match="another prediction alone than among others"):
        load_model(str(tmp_path / "mean.pt2"), random_seed=1)


@pytest.mark.slow
def test_a_callers_autocast_holds_for_a_program(tmp_path: Path):
    (tmp_path / "linear.pt2").write_bytes(export(nn.Linear(5, 4), (magnitude(),)))
    model = load_model(str(tmp_path / "linear.pt2"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.predict(magnitude()).dtype == torch.bfloat16
    assert model.predict(magnitude()).dtype == torch.float32
