"""Ranks of an execution that was stopped elsewhere end within a batch."""

import json
import threading
from pathlib import Path

import pytest

from skyfan import store
from skyfan.errors import Interrupted
from skyfan.job import Job
from skyfan.runs.commit import RunLedger
from skyfan.serving.lambda_events import STATUS_CHANGE, ExecutionEnd, StatusChange
from skyfan.serving.stopped_runs import mark_stopped, stop_mark_uri, stopped_with
from skyfan.stages.infer import Control, infer
from skyfan.stages.messages import ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from tests.conftest import Sample

LOOK_EVERY_S = 0.02


def ended(output: Path, **changes: object) -> ExecutionEnd:
    """EventBridge's event for an execution that was stopped in the console, as AWS documents it."""
    given = json.dumps({"dataset": "s3://bucket/data/sky.pt", "output": output.as_uri()})
    detail = {
        "executionArn": "arn:aws:states:us-east-1:123456789012:execution:skyfan-pipeline:first-1",
        "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:skyfan-pipeline",
        "name": "first-1",
        "status": "ABORTED",
        "startDate": 1548148840101,
        "stopDate": 1548148840122,
        "input": given,
        "output": None,
        "inputDetails": {"included": True},
    }
    event = {"version": "0", "detail-type": STATUS_CHANGE, "source": "aws.states", "detail": detail | changes}
    return StatusChange.model_validate(event).detail


def test_the_event_of_a_stopped_execution_leaves_a_mark_in_its_runs_folder(tmp_path: Path) -> None:
    uri = mark_stopped(ended(tmp_path))
    assert uri == stop_mark_uri(tmp_path.as_uri(), "first-1")
    assert json.loads(store.read(stop_mark_uri(str(tmp_path), "first-1")))["status"] == "ABORTED"


@pytest.mark.parametrize("given", [None, "", "3", '{"dataset": "s3://x"}', "not JSON"])
def test_an_input_that_names_no_run_leaves_nothing(tmp_path: Path, given: str | None) -> None:
    assert mark_stopped(ended(tmp_path, input=given)) is None
    assert not list(tmp_path.iterdir())


def test_a_rank_sees_the_mark_of_its_own_execution_and_no_other(tmp_path: Path) -> None:
    store.put(stop_mark_uri(str(tmp_path), "another"), b"{}")
    with stopped_with("first-1", str(tmp_path), LOOK_EVERY_S) as stopped:
        assert not stopped.wait(10 * LOOK_EVERY_S)
        mark_stopped(ended(tmp_path))
        assert stopped.wait(30)


def test_without_an_execution_nobody_looks(tmp_path: Path) -> None:
    before = threading.active_count()
    with stopped_with(None, str(tmp_path)) as stopped:
        assert threading.active_count() == before
        assert not stopped.is_set()


def test_a_rank_at_work_ends_within_a_batch(tmp_path: Path, sample: Sample, small_model: Path) -> None:
    job = Job(dataset=str(sample.path), model=str(small_model), output=str(tmp_path / "run"), batch_size=1)
    models = ModelCache(threads=1)
    prepared = prepare(PrepareRequest(job=job), models)
    run_id = plan(PlanRequest(job=job, model=prepared)).run_id
    item = RunLedger(job.output).read_plan().item(0)
    model = convert(ConvertRequest(job=job, model=prepared), models)
    seen: list[int] = []
    with stopped_with("first-1", job.output, LOOK_EVERY_S) as stopped:

        def progress(done: int, _total: int) -> None:
            seen.append(done)
            if done == 3:
                mark_stopped(ended(tmp_path / "run"))
                assert stopped.wait(30)

        with pytest.raises(Interrupted, match="stopped after 3 of"):
            infer(
                InferRequest(run_id=run_id, job=job, item=item, model=model),
                models,
                Control(progress=progress, cancelled=stopped),
            )
    assert seen == [1, 2, 3]
    assert not list(RunLedger(job.output).committed_ranks())
