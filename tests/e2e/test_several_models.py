"""Several models over one read of the data, and one model over an image's symmetries."""

import json
import shutil

import numpy as np
import pytest
import torch

from skyfan.errors import BadInput, DatasetError
from skyfan.job import Job
from skyfan.runs.folder import RunFolder
from skyfan.serving.lambda_events import ConvertEvent, InferEvent, PrepareResult
from skyfan.stages.infer import infer
from skyfan.stages.items import read_item
from skyfan.stages.messages import ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from tests.e2e.support import make_job, predictions, run
from tests.e2e.test_results import exported

EXECUTION = {"arn": "arn:aws:states:us-east-1:000000000000:execution:p:e", "name": "e", "started_at": "2026-11-26"}


class Magnitudes(torch.nn.Module):
    """A redshift of magnitudes alone."""

    def forward(self, magnitude):
        return {"z_pred": magnitude.mean(1) / 50, "faint": magnitude.amax(1)}


class Corner(torch.nn.Module):
    """The mean of an image's first pixel over its bands: other for each symmetry."""

    def forward(self, image):
        return {"corner": image[:, :, 0, 0].mean(1), "z_pred": image[:, 0, 0, :].mean(1)}


@pytest.fixture(scope="module")
def models(small_model, tmp_path_factory):
    """A folder with two AstroMAE checkpoints and a program."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(small_model, folder / "first.pt")
    state = torch.load(small_model, weights_only=True)
    torch.save({name: v * 1.01 if v.is_floating_point() else v for name, v in state.items()}, folder / "second.pt")
    exported(Magnitudes(), folder / "third.pt2")
    return folder


def read_bytes(output):
    return sum(json.loads(path.read_text())["bytes_read"] for path in output.glob("[0-9].json"))


def test_three_models_read_the_data_once_and_each_predicts_as_it_does_alone(sample, models, tmp_path):
    alone = {}
    for path in sorted(models.iterdir()):
        run(make_job(sample.path, path, tmp_path / path.stem, partition_size_bytes="file"))
        alone[path.stem] = predictions(tmp_path / path.stem)["z_pred"].to_numpy()
    job = make_job(sample.path, models, tmp_path / "all", partition_size_bytes="file")
    summary = run(job)
    assert summary.science is not None
    assert read_bytes(tmp_path / "all") == read_bytes(tmp_path / "first")
    table = predictions(tmp_path / "all")
    for name, z in alone.items():
        np.testing.assert_allclose(table[f"{name}_z_pred"].to_numpy(), z, atol=2e-5)
    together = np.stack(list(alone.values()))
    np.testing.assert_allclose(table["z_pred"].to_numpy(), together.mean(0), atol=2e-5)
    np.testing.assert_allclose(table["z_pred_std"].to_numpy(), together.std(0), atol=2e-5)
    np.testing.assert_allclose(table["z_pred_disagreement"].to_numpy(), np.ptp(together, axis=0), atol=2e-5)
    assert table.column_names[1:] == [
        *("z_pred", "z_spec", "delta_z", "z_pred_std", "z_pred_disagreement"),
        *("first_z_pred", "second_z_pred", "third_z_pred", "third_faint", "missing"),
    ]


def test_children_of_this_machine_predict_with_several_models(sample, models, tmp_path):
    listed = [str(models / name) for name in ("first.pt", "second.pt")]
    for on in ("process", "local"):
        run(make_job(sample.path, "demo", tmp_path / on, workers=1, world_size=1).with_models(listed), on=on)
    found, expected = (predictions(tmp_path / on) for on in ("local", "process"))
    assert found.column_names == expected.column_names
    for name in ("z_pred", "second_z_pred"):
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), atol=2e-5)


def test_several_models_go_through_the_state_machines_events(sample, models, tmp_path):
    """Every message as JSON, as Step Functions carries it."""
    job = make_job(sample.path, models, tmp_path / "run", partition_size_bytes="file")
    cache = ModelCache(threads=1)
    prepared = prepare(PrepareRequest(job=job, measure_rate=True), cache)
    result = PrepareResult.model_validate_json(PrepareResult(job=job, model=prepared).model_dump_json(by_alias=True))
    reply = plan(PlanRequest(job=result.job, model=result.model))
    asked = {"op": "convert", "job": job.to_json(), "model": result.model.model_dump_json()}
    event = ConvertEvent.model_validate(
        {"op": "convert", "execution": EXECUTION} | {name: json.loads(asked[name]) for name in ("job", "model")}
    )
    file = convert(ConvertRequest(job=event.job, model=event.model), cache)
    assert file.engine in ("torch", "openvino")  # the faster in a trial
    (item,) = json.loads((tmp_path / "run" / "items.json").read_text())
    rank = {"op": "infer", "run_id": reply.run_id, "rank": 0, "item": item, "execution": "e"}
    one = InferEvent.model_validate(rank | {"job": json.loads(job.to_json()), "model": file.model_dump(mode="json")})
    request = InferRequest(run_id=one.run_id, job=one.job, item=read_item(one.item), model=one.model)
    record = infer(request, ModelCache(threads=1))
    assert (record.samples, record.model_digest) == (101, prepared.digest)
    assert "third_z_pred" in predictions(tmp_path / "run").column_names


def test_the_same_models_resume_and_others_are_another_run(sample, models, tmp_path):
    listed = [str(models / "first.pt"), str(models / "third.pt2")]
    job = make_job(sample.path, "demo", tmp_path / "run", partition_size_bytes="file").with_models(listed)
    assert run(job).reused_ranks == 0
    written = RunFolder(job.output).read_plan()
    assert written.job.models == tuple(listed)
    assert run(job).run_id == written.run_id
    with pytest.raises(BadInput, match="holds"):
        run(job.model_copy(update={"model": listed[0]}))


def test_a_job_names_one_model_or_several():
    assert Job(dataset="x.pt", model=["a.pt2"]).model == "a.pt2"
    several = Job(dataset="x.pt", model=["a.pt2", "b.pt2"])
    assert Job.model_validate_json(several.to_json()).models == ("a.pt2", "b.pt2")
    assert Job.model_validate_json('{"dataset": "x.pt", "model": "a.pt2"}').models == ("a.pt2",)
    with pytest.raises(BadInput, match="model is"):
        Job.checked({"dataset": "x.pt", "model": []})


def test_models_of_one_name_are_refused(sample, models, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(models / "first.pt", tmp_path / "other" / "first.pt")
    listed = [str(models / "first.pt"), str(tmp_path / "other" / "first.pt")]
    with pytest.raises(BadInput, match="two models are called first"):
        run(make_job(sample.path, "demo", tmp_path / "run").with_models(listed))
    assert not (tmp_path / "run").exists()


def test_the_mean_over_symmetries(sample, tmp_path):
    model = exported_image(tmp_path / "corner.pt2")
    run(make_job(sample.path, model, tmp_path / "run", augment="symmetries", partition_size_bytes="file"))
    table = predictions(tmp_path / "run")
    image = sample.image.astype(np.float64)
    corners = np.stack([image[:, :, y, x].mean(1) for y in (0, -1) for x in (0, -1)])
    np.testing.assert_allclose(table["corner"].to_numpy(), corners.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(table["corner_std"].to_numpy(), corners.std(0), rtol=1e-3, atol=1e-3)
    edges = np.stack([image[:, 0, 0], image[:, 0, -1], image[:, 0, :, 0], image[:, 0, :, -1]]).mean(2)
    np.testing.assert_allclose(table["z_pred"].to_numpy(), edges.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(table["z_pred_std"].to_numpy(), edges.std(0), rtol=1e-3, atol=1e-3)


def test_symmetries_without_an_image_are_refused(sample, models, tmp_path):
    with pytest.raises(DatasetError, match="the model takes none"):
        run(make_job(sample.path, models / "third.pt2", tmp_path / "run", augment="symmetries"))
    assert not (tmp_path / "run").exists()


def exported_image(path):
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(Corner().eval(), (torch.rand(4, 5, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path
