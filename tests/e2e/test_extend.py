"""A dataset that grew: only what is new is predicted, into the same run, and nothing that was there changes."""

import json

import numpy as np
import pytest

import skyfan
from skyfan import store
from skyfan.errors import Incomplete, RunConflict
from skyfan.events import RankCommitted
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import PlanRequest, PreparedModel
from skyfan.stages.plan import count_ranks_to_run, plan
from tests.e2e.support import make_job, run

NIGHTS = ("n1", "n2", "n0")
"""In the order in which they come; the last one's name stands before the others'."""
EACH = 20


@pytest.fixture
def nights(sample, tmp_path):
    """Adds a night's file to the dataset; 20 samples are 2 partitions."""
    content = skyfan.open_dataset(str(sample.path)).read(0, 3 * EACH, ["image", "magnitude"])
    (tmp_path / "nights").mkdir()

    def add(name):
        rows = slice(NIGHTS.index(name) * EACH, (NIGHTS.index(name) + 1) * EACH)
        path = tmp_path / "nights" / f"{name}.npz"
        np.savez(path, **{key: values[rows] for key, values in content.items()}, objid=np.arange(3 * EACH)[rows])
        return path

    add("n1")
    return add


def job_of(folder, model, **options):
    return make_job(folder / "nights", model, folder / "run", id="objid", **options)


def committed(events):
    return [event.rank for event in events if isinstance(event, RankCommitted)]


def assert_all_there(folder, expected_z, samples):
    table = skyfan.open_run(str(folder / "run")).predictions()
    assert table["sample_index"].to_pylist() == table["objid"].to_pylist() == list(range(samples))
    np.testing.assert_allclose(table["z_pred"].to_numpy(), expected_z[:samples], atol=2e-5)


def test_only_the_new_files_are_predicted_and_old_rows_keep_their_numbers(nights, small_model, expected_z, tmp_path):
    run(job_of(tmp_path, small_model, extend=True))  # the first night: a run as any other
    first = {path.name: path.read_bytes() for path in (tmp_path / "run" / "predictions").iterdir()}
    run_id = skyfan.open_run(str(tmp_path / "run")).plan.run_id
    for count, night in enumerate(NIGHTS[1:], start=2):
        nights(night)
        events = []
        summary = run(job_of(tmp_path, small_model, extend=True), events=events)
        assert committed(events) == [2 * count - 2, 2 * count - 1]
        assert (summary.run_id, summary.samples, summary.reused_ranks) == (run_id, count * EACH, 2 * count - 2)
        assert summary.completeness.complete
        assert_all_there(tmp_path, expected_z, count * EACH)
    planned = skyfan.open_run(str(tmp_path / "run")).plan
    assert [(one.files, one.ranks, one.samples) for one in planned.generations] == [(1, 2, EACH)] * 3
    assert all((tmp_path / "run" / "predictions" / name).read_bytes() == content for name, content in first.items())
    events = []
    assert run(job_of(tmp_path, small_model), events=events) == summary  # nothing is new: no option is needed
    assert committed(events) == []


def test_ranks_to_run_are_counted_as_they_are_then_planned(nights, small_model, tmp_path):
    """Of collectives this number is known before the run is planned: a group of more ranks would not meet."""

    def counted(**options):
        model = PreparedModel(uri="", digest=digest, format="", parameters=1, needs_conversion=False)
        return count_ranks_to_run(PlanRequest(job=job_of(tmp_path, small_model, extend=True, **options), model=model))

    run(job_of(tmp_path, small_model))
    digest = skyfan.open_run(str(tmp_path / "run")).plan.model_digest
    assert counted() == 0
    nights("n2")
    assert (counted(), counted(resume=False)) == (2, 4)
    run(job_of(tmp_path, small_model, extend=True))
    assert counted() == 0
    (tmp_path / "run" / "predictions" / "rank-0000003.parquet").unlink()
    assert (counted(), counted(batch_size=7)) == (1, 4)


def test_a_run_that_was_extended_and_not_computed_yet_is_incomplete(nights, small_model, tmp_path):
    """The summary that is there is that of the first night alone."""
    run(job_of(tmp_path, small_model, extend=True))
    digest = skyfan.open_run(str(tmp_path / "run")).plan.model_digest
    nights("n2")
    model = PreparedModel(uri="", digest=digest, format="", parameters=1, needs_conversion=False)
    plan(PlanRequest(job=job_of(tmp_path, small_model, extend=True), model=model))
    extended = skyfan.open_run(str(tmp_path / "run"))
    with pytest.raises(Incomplete, match="is not finished"):
        extended.export(tmp_path / "all.csv")
    summary = extended.write_report()
    assert (summary.state, summary.samples, summary.completeness.samples_missing) == ("incomplete", 2 * EACH, EACH)


def test_a_dataset_that_grew_is_told_with_the_option(nights, small_model, tmp_path):
    run(job_of(tmp_path, small_model))
    nights("n2")
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(RunConflict, match=r"of 1 file, and .*nights has 1 file more: add --extend"):
        run(job_of(tmp_path, small_model))
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize("change", ["options", "gone", "partition size"])
def test_what_differs_otherwise_is_no_extension(nights, small_model, tmp_path, change):
    run(job_of(tmp_path, small_model))
    nights("n2")
    options = {"options": {"batch_size": 7}, "partition size": {"partition_size_bytes": 10**6}}.get(change, {})
    if change == "gone":
        (tmp_path / "nights" / "n1.npz").unlink()
        nights("n0")
    with pytest.raises(RunConflict, match=r"holds run .* and this is run"):
        run(job_of(tmp_path, small_model, extend=True, **options))


def test_after_a_kill_in_an_extension_nothing_is_lost(nights, small_model, expected_z, tmp_path):
    run(job_of(tmp_path, small_model))
    nights("n2")
    run(job_of(tmp_path, small_model, extend=True))
    (tmp_path / "run" / "predictions" / "rank-0000003.parquet").unlink()
    (tmp_path / "run" / "predictions" / "rank-0000000.parquet").unlink()
    events = []
    run(job_of(tmp_path, small_model), events=events)
    assert committed(events) == [0, 3]
    assert_all_there(tmp_path, expected_z, 2 * EACH)


def test_a_claim_whose_plan_was_not_written_is_taken_up(nights, small_model, expected_z, tmp_path):
    """Killed between plan-2.json and plan.json; and then another night comes."""
    run(job_of(tmp_path, small_model))
    folder = RunFolder(str(tmp_path / "run"))
    first = store.read(folder.plan_uri)
    nights("n2")
    run(job_of(tmp_path, small_model, extend=True))
    for path in (tmp_path / "run" / "predictions").glob("rank-000000[23].parquet"):
        path.unlink()
    store.put(folder.plan_uri, first)
    nights("n0")
    run(job_of(tmp_path, small_model, extend=True))
    assert_all_there(tmp_path, expected_z, 3 * EACH)
    assert len(json.loads(store.read(folder.plan_uri))["generations"]) == 3
