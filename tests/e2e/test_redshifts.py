"""From a model that gives p(z), classes or embeddings to columns, metrics, intervals and a qp ensemble."""

import numpy as np
import pytest
import torch
from scipy import stats

import skyfan
from skyfan.errors import BadInput, DatasetError, ModelError
from skyfan.formats.torch import write_tensorfile
from tests.e2e.support import make_job, run
from tests.e2e.test_results import exported

ROWS = 400
SIGMA = 0.02
RNG = np.random.default_rng(2)


class Mixture(torch.nn.Module):
    """Two equal components, so that z is normal about 0.02 (m − 16); one galaxy has no width."""

    def forward(self, magnitude):
        z = 0.02 * (magnitude[:, :1] - 16)
        sigma = torch.where(magnitude[:, 1:2] > 30, 0.0, SIGMA)
        ones = torch.ones_like(z)
        return {
            "z_mean": torch.cat([z, z], 1),
            "z_sigma": torch.cat([sigma, sigma], 1),
            "z_weight": torch.cat([ones, 3 * ones], 1),
            "embedding": magnitude * 2.0,
        }


class Grid(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("grid", torch.linspace(0, 0.4, 201))

    def forward(self, magnitude):
        z = 0.02 * (magnitude[:, :1] - 16)
        return torch.exp(-(((self.grid - z) / SIGMA) ** 2) / 2)


class Point(torch.nn.Module):
    def forward(self, magnitude):
        return {"z_pred": 0.02 * (magnitude[:, :1] - 16)}


class Scores(torch.nn.Module):
    def forward(self, magnitude):
        return {"scores": magnitude[:, :3] - 18}


class Embedding(torch.nn.Module):
    def forward(self, magnitude):
        return {"embedding": magnitude * 1.5}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    return {kind.__name__: exported(kind(), folder / f"{kind.__name__}.pt2") for kind in
            (Mixture, Grid, Point, Scores, Embedding)}  # fmt: skip


def catalogue(path, rows=ROWS, **more):
    magnitude = torch.tensor(RNG.uniform(18, 24, (rows, 5)), dtype=torch.float32)
    z = 0.02 * (magnitude[:, 0] - 16) + SIGMA * torch.tensor(RNG.normal(size=rows), dtype=torch.float32)
    columns = {"magnitude": magnitude, "redshift": z, "objid": torch.arange(rows) + 5_000_000_000_000_000_000, **more}
    torch.save(columns, path)
    return columns


def relative_errors(columns):
    """|z − z_pred| / (1 + z_pred) of what `Point` predicts."""
    z_pred = 0.02 * (columns["magnitude"][:, 0].numpy() - 16)
    return np.abs(columns["redshift"].numpy() - z_pred) / (1 + z_pred)


def test_a_mixture_is_told_by_its_names_and_becomes_estimates_intervals_and_metrics(programs, tmp_path):
    columns = catalogue(tmp_path / "sky.pt")
    columns["magnitude"][5, 1] = 31
    torch.save(columns, tmp_path / "sky.pt")
    job = make_job(tmp_path / "sky.pt", programs["Mixture"], tmp_path / "run", partition_size_bytes=5000)
    summary = run(job)
    table = skyfan.open_run(job.output).predictions()
    assert table["missing"].to_pylist()[5] == "the model's p(z) is no distribution"
    assert table["z_pred"].null_count == table["z_mean"].null_count == 1
    present = table.filter(table["z_pred"].is_valid())
    centre = 0.02 * (np.delete(columns["magnitude"].numpy(), 5, 0)[:, 0] - 16)
    for name in ("z_pred", "pz_median", "pz_mean", "pz_mode"):
        np.testing.assert_allclose(present[name], centre, atol=2e-6)
    np.testing.assert_allclose(present["z_high"], stats.norm.ppf(0.84, centre, SIGMA), atol=2e-6)
    pit = stats.norm.cdf(present["z_spec"], centre, SIGMA)
    np.testing.assert_allclose(present["pit"], pit, atol=2e-6)
    assert present["z_weight"].to_pylist()[0] == [0.25, 0.75]
    science, errors = summary.science, summary.science_errors
    assert science["pit_ks"] == pytest.approx(stats.kstest(pit, "uniform").statistic, abs=1e-5)
    assert science["pit_ks_p"] > 0.01
    assert 0.6 < science["coverage"] < 0.76
    assert science["crps"] == pytest.approx(SIGMA / np.sqrt(np.pi), rel=0.1)
    assert errors["coverage"] == pytest.approx(np.sqrt(0.68 * 0.32 / 399), rel=0.3)
    assert sum(summary.pit_counts) == 399
    assert {one.by for one in summary.science_bins} == {"z_spec", "r magnitude", "g - r"}


def test_a_grid_agrees_with_a_mixture_and_with_qp(programs, tmp_path):
    qp = pytest.importorskip("qp")
    catalogue(tmp_path / "sky.pt", 100)
    jobs = {
        "grid": {"pz": "grid=0:0.4:201", "model": programs["Grid"]},
        "mixture": {"pz": "mixture", "model": programs["Mixture"]},
    }
    found = {}
    for name, change in jobs.items():
        job = make_job(tmp_path / "sky.pt", change["model"], tmp_path / name, pz=change["pz"], point_estimate="mode")
        run(job)
        done = skyfan.open_run(job.output)
        found[name] = table = done.predictions()
        assert done.export(tmp_path / f"{name}.hdf5") == 100
        ensemble = qp.read(str(tmp_path / f"{name}.hdf5"))
        np.testing.assert_array_equal(ensemble.ancil["id"], table["objid"].to_numpy())
        np.testing.assert_array_equal(ensemble.ancil["zmode"], table["z_pred"].to_numpy())
        np.testing.assert_allclose(ensemble.median()[:, 0], table["pz_median"], atol=1e-3)
        np.testing.assert_allclose(ensemble.mode(np.linspace(0, 0.4, 4001))[:, 0], table["pz_mode"], atol=1.1e-3)
        pit = [np.ravel(ensemble[row].cdf(float(table["z_spec"][row].as_py())))[0] for row in range(100)]
        np.testing.assert_allclose(pit, table["pit"], atol=1e-4)
    np.testing.assert_allclose(found["grid"]["pz_median"], found["mixture"]["pz_median"], atol=2e-3)


def test_p_z_is_a_part_of_the_identity(programs, tmp_path):
    catalogue(tmp_path / "sky.pt", 60)
    fields = {"pz": "grid=0:0.4:201"}
    ids = {
        skyfan.run(make_job(tmp_path / "sky.pt", programs["Grid"], tmp_path / str(number), **fields | change),
                   on="process").summary.run_id
        for number, change in enumerate([{}, {"pz": "grid=0:0.5:201"}, {"point_estimate": "mean"}])
    }  # fmt: skip
    assert len(ids) == 3


def test_points_get_intervals_that_hold_their_part_of_other_galaxies(programs, tmp_path):
    errors = [relative_errors(catalogue(tmp_path / name, 600)) for name in ("spec.pt", "sky.pt")]
    job = make_job(tmp_path / "sky.pt", programs["Point"], tmp_path / "run", calibrate=str(tmp_path / "spec.pt"))
    summary = run(job)
    assert summary.calibration["samples"] == 600
    assert summary.calibration["half_width"] == pytest.approx(np.sort(errors[0])[409 - 1], rel=1e-4)  # ⌈601 · 0.68⌉
    expected = (errors[1] <= summary.calibration["half_width"]).mean()
    assert summary.science["coverage"] == pytest.approx(expected, abs=0.003)
    table = skyfan.open_run(job.output).predictions()
    half = summary.calibration["half_width"]
    np.testing.assert_allclose(
        table["z_high"].to_numpy() - table["z_pred"].to_numpy(), half * (1 + table["z_pred"].to_numpy()), rtol=1e-4
    )
    assert run(job) == summary  # nothing is computed again
    plain = run(make_job(tmp_path / "sky.pt", programs["Point"], tmp_path / "plain"))
    assert plain.run_id != summary.run_id
    assert "coverage" not in plain.science


def test_a_calibration_that_would_flatter_or_cannot_be_is_refused(programs, tmp_path):
    catalogue(tmp_path / "sky.pt", 100)
    catalogue(tmp_path / "few.pt", 40)
    (tmp_path / "copy.pt").write_bytes((tmp_path / "sky.pt").read_bytes())
    for spec, sentence in (("copy.pt", "one of the dataset's files"), ("few.pt", "40 galaxies have")):
        with pytest.raises(BadInput, match=sentence):
            run(make_job(tmp_path / "sky.pt", programs["Point"], tmp_path / "run", calibrate=str(tmp_path / spec)))
    job = make_job(tmp_path / "sky.pt", programs["Scores"], tmp_path / "run", calibrate=str(tmp_path / "few.pt"))
    with pytest.raises(BadInput, match="--z-column"):
        run(job)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "options", "error", "sentence"),
    [
        ("Grid", {"pz": "grid=0:3:301"}, ModelError, r"fits none of the model's outputs; it gives .* of width 201"),
        ("Grid", {"pz": "mixture"}, ModelError, "takes three outputs of one width, z_mean, z_sigma, z_weight"),
        ("Scores", {"classes": "a,b"}, ModelError, "--classes with 2 classes fits none"),
        ("Scores", {"classes": "3", "labels": "kind"}, DatasetError, "no column kind, which --labels names"),
        ("Scores", {"labels": "objid"}, BadInput, "--labels names known classes"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_anything_is_written(
    programs, tmp_path, model, options, error, sentence
):
    catalogue(tmp_path / "sky.pt", 30)
    with pytest.raises(error, match=sentence):
        run(make_job(tmp_path / "sky.pt", programs[model], tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_classes_are_named_counted_and_judged(programs, tmp_path):
    label = torch.tensor(RNG.integers(0, 4, 300))  # 3 is no class
    columns = catalogue(tmp_path / "sky.pt", 300, label=label)
    job = make_job(tmp_path / "sky.pt", programs["Scores"], tmp_path / "run", classes="spiral,elliptical,star")
    found = run(job).classes
    table = skyfan.open_run(job.output).predictions()
    scores = columns["magnitude"][:, :3] - 18
    expected = scores.argmax(1)
    names = np.array(found.names)
    assert table["class"].to_pylist() == names[expected].tolist()
    np.testing.assert_allclose(table["confidence"], scores.softmax(1).max(1).values, atol=1e-6)
    assert found.labelled == int((label < 3).sum())
    known = label < 3
    assert found.accuracy == pytest.approx(float((expected == label)[known].float().mean()))
    assert sum(map(sum, found.confusion)) == found.labelled
    assert table["true_class"].null_count == 300 - found.labelled


def test_the_samples_with_unusual_embeddings_are_named(programs, tmp_path):
    columns = catalogue(tmp_path / "sky.pt", 200)
    columns["magnitude"][77] += torch.tensor([9.0, -9, 9, -9, 9])
    torch.save(columns, tmp_path / "sky.pt")
    summary = run(make_job(tmp_path / "sky.pt", programs["Embedding"], tmp_path / "run"))
    assert summary.anomalies.output == "embedding"
    assert summary.anomalies.samples[0][0] == 77


def test_a_run_without_any_prediction_is_told_as_such(sample, tmp_path):
    sample.image[:, 2, 16, 16] = np.nan
    write_tensorfile(sample.path, [sample.image, sample.magnitude, sample.redshift])
    summary = run(make_job(sample.path, "demo", tmp_path / "run"))
    assert (summary.state, summary.completeness.samples_missing) == ("incomplete", len(sample.redshift))
    assert (summary.science, summary.anomalies) == (None, None)
