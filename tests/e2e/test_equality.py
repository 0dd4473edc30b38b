"""However the data are cut and fanned out, the predictions are those of `model(x)`."""

import json

import numpy as np
import pytest

from skyfan.formats.torch import write_tensorfile
from tests.e2e.support import assert_equal_z, make_job, predictions, run


# Each number of ranks and each batch size in the fast tests; all pairs of them in the slow ones.
@pytest.mark.parametrize(
    ("world_size", "batch_size"),
    [
        pytest.param(world_size, batch_size, marks=[] if fast else [pytest.mark.slow])
        for world_size, batch_size, fast in [
            (1, 1, False),
            (1, 37, True),
            (1, 512, False),
            (3, 1, True),
            (3, 37, False),
            (3, 512, False),
            (7, 1, False),
            (7, 37, False),
            (7, 512, True),
        ]
    ],
)
def test_ranks_and_batch_sizes_do_not_change_predictions(
    sample, small_model, expected_z, tmp_path, world_size, batch_size
):
    output = tmp_path / "run"
    summary = run(make_job(sample.path, small_model, output, world_size=world_size, batch_size=batch_size))
    assert_equal_z(predictions(output), expected_z)
    assert summary.state == "complete"
    assert summary.completeness.ranks_present == world_size


def test_one_file_and_its_partition_files_are_the_same_dataset(sample, small_model, expected_z, tmp_path):
    from skyfan.stages.partition_files import write_partitions

    folder = tmp_path / "parts"
    written = write_partitions(str(sample.path), 9 * 20504 + 2048, str(folder), lambda done, total: None)
    assert len(written) == 12  # 10.pt must come after 2.pt
    run(make_job(folder, small_model, tmp_path / "run", partition_size_bytes=None))
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_known_redshifts_and_residuals_stand_beside_the_predictions(sample, small_model, tmp_path):
    run(make_job(sample.path, small_model, tmp_path / "run"))
    table = predictions(tmp_path / "run")
    assert table.column_names == ["sample_index", "z_pred", "z_spec", "delta_z", "missing"]
    z_pred, z_spec = table["z_pred"].to_numpy(), table["z_spec"].to_numpy()
    np.testing.assert_array_equal(z_spec, sample.redshift)
    np.testing.assert_allclose(table["delta_z"].to_numpy(), (z_pred - z_spec) / (1 + z_spec), rtol=1e-5)


@pytest.mark.slow
def test_an_exported_program_gives_all_its_columns_and_metrics_only_for_the_named_one(sample, tmp_path):
    import torch

    class Two(torch.nn.Module):
        def forward(self, image, magnitude):
            return torch.stack([magnitude.sum(1), image.mean((1, 2, 3))], dim=1)

    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Two(),
        (torch.zeros(4, 5, 32, 32), torch.zeros(4, 5)),
        dynamic_shapes={"image": {0: batch}, "magnitude": {0: batch}},
    )
    model = tmp_path / "two.pt2"
    torch.export.save(program, model)
    summary = run(make_job(sample.path, model, tmp_path / "plain"))
    assert predictions(tmp_path / "plain").column_names == ["sample_index", "output_0", "missing"]
    assert summary.science is None
    job = make_job(sample.path, model, tmp_path / "named")
    job = job.model_copy(update={"z_column": 1})
    summary = run(job)
    table = predictions(tmp_path / "named")
    assert table.column_names == ["sample_index", "z_pred", "z_spec", "delta_z", "output_0", "missing"]
    np.testing.assert_allclose(table["z_pred"].to_numpy(), sample.image.mean((1, 2, 3)), atol=1e-6)
    assert summary.science["samples"] == len(sample.redshift)


def test_the_run_leaves_the_documented_files(real_page, sample, small_model, tmp_path):
    output = tmp_path / "run"
    summary = run(make_job(sample.path, small_model, output, world_size=2))
    names = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {"plan.json", "0.json", "1.json", "combined_data.json", "summary.json", "report.html"} <= names
    assert {"predictions/rank-0000000.parquet", "predictions/rank-0000001.parquet"} <= names
    combined = json.loads((output / "combined_data.json").read_text())
    assert [record["rank"] for record in combined] == [0, 1]
    assert combined[0] == json.loads((output / "0.json").read_text())
    assert combined[0]["schema"] == "skyfan.rank-record/1"
    assert json.loads((output / "summary.json").read_text()) == summary.to_json_dict()
    assert "<svg" in (output / "report.html").read_text()


@pytest.mark.slow
def test_over_grpc_the_same_is_planned_and_predicted_as_in_one_process(sample, small_model, expected_z, tmp_path):
    whole = {"partition_size_bytes": None}
    here = run(make_job(sample.path, small_model, tmp_path / "here", **whole))
    there = run(make_job(sample.path, small_model, tmp_path / "there", workers=1, **whole), on="local")
    assert there.run_id == here.run_id
    assert_equal_z(predictions(tmp_path / "there"), expected_z)


def test_a_plan_of_a_large_file_reads_little(sample, tmp_path, monkeypatch):
    from skyfan import store
    from skyfan.job import Job
    from skyfan.stages.plan import draft

    read_bytes = []
    add = store.ReadStats.add

    def counted(self, size_bytes, duration_s):
        read_bytes.append(size_bytes)
        add(self, size_bytes, duration_s)

    monkeypatch.setattr(store.ReadStats, "add", counted)
    path = tmp_path / "large.pt"
    write_tensorfile(path, [np.zeros((5000, 5, 32, 32), np.float32), np.zeros((5000, 5), np.float32)])
    planned = draft(Job(dataset=str(path)), "")
    assert planned.samples == 5000
    assert 0 < sum(read_bytes) < 2**20


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_dataset_of_another_dtype_is_given_to_the_model_in_the_models(sample, small_model, tmp_path, dtype):
    import ml_dtypes
    import torch

    from skyfan.models import load_model

    kind = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)
    image, magnitude = sample.image.astype(kind), sample.magnitude.astype(kind)
    write_tensorfile(sample.path, [image, magnitude, sample.redshift])
    run(make_job(sample.path, small_model, tmp_path / "run"))
    inputs = [torch.from_numpy(values.astype(np.float32)) for values in (image, magnitude)]
    assert_equal_z(predictions(tmp_path / "run"), load_model(str(small_model)).predict(*inputs).numpy()[:, 0])
