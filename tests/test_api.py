"""The front door: what a program or a notebook relies on."""

import asyncio
import doctest
import inspect
import subprocess
import sys

import numpy as np
import pytest

import skyfan
from skyfan import api
from skyfan.engines.device import available_device
from skyfan.errors import BadInput, LocationError
from skyfan.events import FilesRead, PhaseStarted, Planned, RankCommitted, RankProgress
from skyfan.formats import dataset
from tests.e2e.support import make_job

pytestmark = pytest.mark.slow  # runs of whole jobs


def test_every_public_name_is_there_documented_and_typed():
    for name in skyfan.__all__:
        found = getattr(skyfan, name)
        if callable(found):
            assert inspect.getdoc(found), name
        members = vars(found).items() if found is skyfan.Run or found is skyfan.Dataset else []
        methods = [member for key, member in members if inspect.isfunction(member) and key[0] != "_"]
        for function in [found] if inspect.isfunction(found) else methods:
            assert inspect.getdoc(function), function
            hints = set(function.__annotations__) | {"self"}
            assert set(inspect.signature(function).parameters) | {"return"} <= hints, function
    assert set(api.__all__) <= set(skyfan.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'stages_'"):
        _ = skyfan.stages_


def test_importing_skyfan_imports_nothing_else():
    code = "import sys, skyfan; assert not {'numpy', 'torch', 'pydantic', 'rich'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_is_an_ordinary_call_and_gives_what_it_left(sample, small_model, expected_z, tmp_path):
    events = []
    job = make_job(sample.path, small_model, tmp_path / "run")
    run = skyfan.run(job, on="process", progress=events.append)
    assert run.summary.state == "complete"
    assert [record.rank for record in run.records] == list(range(9))
    table = run.predictions()
    assert table["sample_index"].to_pylist() == list(range(101))
    np.testing.assert_allclose(table["z_pred"].to_numpy(), expected_z, atol=2e-5)
    assert sum(isinstance(event, RankCommitted) for event in events) == 9
    assert skyfan.open_run(str(tmp_path / "run")).summary == run.summary
    assert "101 of 101" in run._repr_html_()


def test_it_can_be_called_where_an_event_loop_runs(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=1)

    async def notebook_cell():
        return skyfan.run(job, on="process", progress=False).summary.state

    assert asyncio.run(notebook_cell()) == "complete"


def test_predictions_as_pandas_and_astropy(sample, small_model, tmp_path):
    run = skyfan.run(make_job(sample.path, small_model, tmp_path / "run"), on="process", progress=False)
    frame, table = run.to_pandas(), run.to_astropy()
    assert list(frame.columns) == table.colnames == ["sample_index", "z_pred", "z_spec", "delta_z", "missing"]
    assert frame["z_pred"].to_numpy() == pytest.approx(np.asarray(table["z_pred"]))
    assert len(frame) == 101


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("astropy", "to_astropy")])
def test_a_library_that_is_not_installed_is_named(monkeypatch, library, method):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadInput, match=f"{method} needs {library}, which is not installed: pip install {library}"):
        getattr(skyfan.Run("runs/any"), method)()


def test_a_plan_is_only_looked_at(sample, tmp_path):
    planned = skyfan.plan(skyfan.Job(dataset=str(sample.path), output=str(tmp_path / "run"), world_size=4))
    assert (planned.samples, planned.world_size) == (101, 4)
    assert not (tmp_path / "run").exists()


def test_a_dataset_is_read_across_its_files(sample, tmp_path):
    from skyfan.stages.partition_files import write_partitions

    write_partitions(str(sample.path), 12 * 20504, str(tmp_path / "parts"), lambda *_: None)
    dataset = skyfan.open_dataset(str(tmp_path / "parts"))
    assert (dataset.samples, dataset.names) == (101, ("image", "magnitude", "redshift"))
    rows = dataset.read(7, 40, ["redshift"])
    np.testing.assert_array_equal(rows["redshift"], sample.redshift[7:40])
    assert dataset.read(5, 5)["image"].shape == (0, 5, 32, 32)
    with pytest.raises(BadInput, match="has samples 0 to 101"):
        dataset.read(90, 102)


@pytest.mark.parametrize("call", [skyfan.run, skyfan.plan])
def test_a_file_in_place_of_a_job_is_told_how_to_write_one(call):
    with pytest.raises(BadInput, match=r"not 'sky\.pt'; write skyfan\.Job\(dataset="):
        call("sky.pt")


def test_a_job_says_what_is_wrong_with_it():
    with pytest.raises(BadInput, match="batch_size is 0; it must be at least 1"):
        skyfan.Job.checked({"dataset": "x.pt", "batch_size": 0})
    assert skyfan.Job(dataset="data/sky.pt").output == "runs/sky"


@pytest.mark.skipif(available_device() != "cpu", reason="compiles on a GPU")
def test_compiling_without_a_gpu_is_refused_before_anything_is_written(sample, small_model, tmp_path):
    with pytest.raises(BadInput, match="--compile is for GPUs and the model would run on the CPU; leave it out"):
        skyfan.run(make_job(sample.path, small_model, tmp_path / "run", compile=True), on="process", progress=False)
    assert not (tmp_path / "run").exists()


def test_compiling_is_part_of_a_runs_identity(sample, tmp_path):
    plans = [skyfan.plan(skyfan.Job(dataset=str(sample.path), compile=compile_)) for compile_ in (False, True)]
    assert plans[0].run_id != plans[1].run_id


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(LocationError, match="holds no run"):
        skyfan.open_run(str(tmp_path))


def interrupted_run(backend, job):
    """What the caller of a run is told when SIGINT comes: in a process of its own, which the signal may end."""
    command = [sys.executable, "-m", "tests.interrupted", backend]
    ran = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_interrupt_keeps_what_is_committed_and_the_same_call_finishes(sample, small_model, tmp_path):
    """As Jupyter does it: KeyboardInterrupt in the main thread while the run works on another."""
    job = make_job(sample.path, small_model, tmp_path / "run", batch_size=1)
    assert "what is committed is kept" in interrupted_run("at_the_first_commit", job)
    events = []
    assert skyfan.run(job, on="process", progress=events.append).summary.state == "complete"
    (planned,) = (event for event in events if isinstance(event, Planned))
    assert 1 <= len(planned.committed_ranks) < len(planned.plan.working_ranks)


@pytest.mark.parametrize("kind", [PhaseStarted, FilesRead, RankProgress, RankCommitted])
def test_an_error_of_the_listener_ends_the_run_and_is_the_callers(sample, small_model, tmp_path, kind):
    job = make_job(sample.path, small_model, tmp_path / "run")

    def listener(event):
        if isinstance(event, kind):
            raise ZeroDivisionError("a fault of the caller's own")

    with pytest.raises(ZeroDivisionError, match="a fault of the caller's own"):
        skyfan.run(job, on="process", progress=listener)
    again = skyfan.run(job, on="process", progress=False)
    assert again.summary.completeness.samples_missing == 0
    if kind is RankCommitted:
        assert again.summary.reused_ranks > 0


def test_a_run_that_does_not_end_when_it_is_interrupted_is_left_behind():
    """A read that hangs cannot hold the user up."""
    assert "what is committed is kept" in interrupted_run("hanging", skyfan.Job(dataset="x.pt"))


def test_the_documentations_examples_run(sample, monkeypatch):
    """Docstrings of the public API are run as they stand, in a folder with a dataset of their names."""
    monkeypatch.chdir(sample.path.parent)  # where the dataset is called sky.pt
    for module in (api, dataset):
        results = doctest.testmod(module, extraglobs={"skyfan": skyfan})
        assert results.attempted > 0
        assert results.failed == 0
