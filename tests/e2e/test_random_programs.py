"""Programs that draw random numbers: refused, or seeded where the job asks for them."""

import pytest
from typer.testing import CliRunner

import skyfan
from skyfan.cli import app
from skyfan.errors import ModelError
from tests.e2e.support import make_job, predictions, run
from tests.models.programs.corpus import export, magnitude
from tests.models.programs.test_trial import Dropout


@pytest.fixture
def dropout(tmp_path):
    path = tmp_path / "dropout.pt2"
    path.write_bytes(export(Dropout(), (magnitude(),), train=True))
    return path


def test_a_seed_gives_the_same_predictions_again_and_another_seed_others(sample, dropout, tmp_path):
    outputs = []
    for number, seed in enumerate((1, 1, 2)):
        job = make_job(sample.path, dropout, tmp_path / str(number), random_seed=seed, batch_size=8)
        assert run(job).state == "complete"
        outputs.append(predictions(tmp_path / str(number))["output_0"])
    assert outputs[0] == outputs[1] != outputs[2]
    found = skyfan.open_run(str(tmp_path / "0")).verify(samples=4)
    assert (found.ok, found.samples) == (True, 0)
    assert "--random-seed" in found.not_computed
    told = CliRunner().invoke(app, ["verify", str(tmp_path / "0")])
    assert told.exit_code == 0
    assert "nothing: with" in told.output


def test_randomness_that_was_not_asked_for_or_that_nothing_draws_is_refused(sample, dropout, small_model, tmp_path):
    calm = tmp_path / "calm.pt2"
    calm.write_bytes(export(Dropout(), (magnitude(),)))
    for model, options, sentence in (
        (dropout, {}, "--random-seed"),
        (small_model, {"random_seed": 1}, "this model draws none"),
        (calm, {"random_seed": 1}, "this model draws none"),
        (dropout, {"random_seed": 1, "engine": "openvino"}, "leave --engine out"),
    ):
        with pytest.raises(ModelError, match=sentence):
            run(make_job(sample.path, model, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()
