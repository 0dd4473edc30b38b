"""A finished run answers from its folder; anything else about it is found out by the run itself."""

import pytest

from skyfan.backends.process import ProcessServices
from skyfan.errors import LocationError, RunConflict
from skyfan.events import Planned
from skyfan.runs.folder import RunFolder
from tests.e2e.support import make_job, run


class Refusing(ProcessServices):
    """Services that must not be started."""

    def __init__(self):
        super().__init__()
        self.entered = False

    async def __aenter__(self):
        self.entered = True
        return self


@pytest.fixture
def job(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=2)
    run(job)
    return job


def test_it_starts_no_service_and_reports_its_plan(job):
    services, events = Refusing(), []
    assert run(job, services, events).state == "complete"
    assert not services.entered
    assert [event.committed_ranks for event in events if isinstance(event, Planned)] == [(0, 1)]


@pytest.mark.parametrize("change", [{"resume": False}, {"tolerated_failure_percentage": 5.0}])
def test_it_is_run_where_that_is_asked_for(job, change):
    services = Refusing()
    run(job.model_copy(update=change), services)
    assert services.entered is (change == {"resume": False})


def test_another_job_in_its_folder_is_refused(job):
    with pytest.raises(RunConflict, match="batch size"):
        run(job.model_copy(update={"batch_size": 4}))


def test_a_damaged_summary_is_told_and_once_removed_written_again_from_what_is_committed(job, tmp_path):
    summary = tmp_path / "run" / "summary.json"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "predictions").iterdir()}
    summary.write_text("{")
    with pytest.raises(
        LocationError, match=r"summary\.json is damaged .*; remove it, and the same skyfan run command writes it again"
    ):
        run(job)
    summary.unlink()
    again = run(job)
    assert (again.state, again.reused_ranks) == ("complete", 2)
    assert RunFolder(job.output).read_summary() == again
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", [b"", None])
def test_a_file_that_is_emptied_or_gone_is_noticed(job, tmp_path, damage):
    file = next((tmp_path / "run" / "predictions").glob("rank-*1.parquet"))
    if damage is None:
        file.unlink()
        services = Refusing()
        assert run(job, services).state == "complete"
        assert services.entered
    else:
        file.write_bytes(damage)
        with pytest.raises(RunConflict, match="is damaged"):
            run(job)
