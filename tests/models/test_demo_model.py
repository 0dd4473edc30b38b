"""The packaged model is small, is the one on its card, and is a real predictor on galaxies that it has not seen."""

import pytest
import torch

from skyfan.models import demo_model_path, load_model
from skyfan.training.comparison import compare, rendered_split

MAX_BYTES = 10 * 2**20


def test_the_demo_model_is_small_and_the_one_on_its_card():
    loaded = load_model("demo")
    assert loaded.size_bytes <= MAX_BYTES
    card = demo_model_path().with_suffix(".md").read_text(encoding="utf-8")
    assert loaded.digest in card
    assert f"{loaded.parameters:,} parameters" in card


def test_the_demo_model_tells_its_heads_and_its_training():
    loaded = load_model("demo")
    assert loaded.origins["num_heads"] == "the file's metadata"
    assert {"training", "skyfan_version"} <= set(loaded.metadata)


def test_the_demo_model_gives_plausible_redshifts_from_raw_magnitudes():
    """A bright and a faint red galaxy: redshifts within the survey's range, the faint one farther away."""
    magnitude = torch.tensor([[16.9, 15.1, 14.3, 13.9, 13.6], [20.9, 18.9, 17.6, 17.1, 16.8]])
    redshift = load_model("demo").predict(torch.zeros(2, 5, 32, 32), magnitude)[:, 0]
    assert 0.0 < redshift[0] < redshift[1] < 0.3


@pytest.mark.slow
def test_the_demo_model_is_within_five_percent_of_the_trees_or_better():
    training, test = rendered_split(seed=7)
    result = compare(load_model("demo"), training, test)
    assert (result.training_samples, result.test_samples) == (4000, 1000)
    assert result.model.nmad <= 1.05 * result.trees.nmad
    assert result.model.r2 >= 0.95 * result.trees.r2
