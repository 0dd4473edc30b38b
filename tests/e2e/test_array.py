"""A planned run whose ranks any scheduler starts: `skyfan plan --write`, `skyfan rank`, `skyfan aggregate`."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from skyfan.errors import BadInput, LocationError, SkyfanError
from skyfan.runs.folder import RunFolder
from skyfan.serving.rank_job import run_rank_job
from skyfan.stages.failure_files import RankFailure, read_failures, write_failure
from skyfan.stages.starts import read_start, write_start
from tests.command import skyfan
from tests.conftest import make_sample
from tests.e2e.support import assert_equal_z, make_job, predictions, run

RANKS = 5


@pytest.fixture
def planned(sample, small_model, tmp_path):
    """A planned run of five ranks, of which none is computed."""
    output = tmp_path / "run"
    plan(sample, small_model, output)
    return output


@pytest.fixture
def planned_long(small_model, tmp_path):
    """A planned run whose first rank is at work for seconds, so that a signal that comes late still finds it there."""
    output, long = tmp_path / "run", make_sample(tmp_path / "long.pt", samples=300)
    words = ("--dataset", long.path, "--model", small_model, "--output", output, "--world-size", 1, "--batch-size", 1)
    skyfan("plan", *words, "--write", "--json")
    return output


def plan(sample, model, output, *more):
    words = ("--dataset", sample.path, "--model", model, "--output", output, "--partition-size", "200KB")
    return json.loads(skyfan("plan", *words, "--world-size", RANKS, "--write", "--json", *more).stdout)


def failures(output):
    folder = RunFolder(str(output))
    return read_failures(folder, read_start(folder).name, frozenset())[0]


def test_ranks_in_any_order_and_twice_give_the_predictions_of_one_process(
    planned, sample, small_model, expected_z, monkeypatch, tmp_path
):
    for position in (3, 0, 3, 4, 1, 2, 0):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(position))
        assert run_rank_job(str(planned)) == 0
    found = json.loads(skyfan("aggregate", planned, "--json").stdout)
    assert_equal_z(predictions(planned), expected_z)
    job = make_job(sample.path, small_model, tmp_path / "here", partition_size_bytes=200 * 1024, world_size=RANKS)
    here = run(job).to_json_dict()
    assert found["run_id"] == here["run_id"]
    assert found["completeness"] == here["completeness"]
    assert (found["attempts"], found["failures"], found["reused_ranks"]) == (RANKS, {}, 0)


def test_ranks_at_the_same_time_commit_once(planned, expected_z):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda rank: run_rank_job(str(planned), index=rank), [0, 0, 1, 1, 2, 3, 4])) == [0] * 7
    skyfan("aggregate", planned, "-q")
    assert_equal_z(predictions(planned), expected_z)


def test_tasks_of_several_ranks_share_them(planned, expected_z, monkeypatch):
    for task in range(2):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(task))
        assert run_rank_job(str(planned), tasks=2) == 0
    skyfan("aggregate", planned, "-q")
    assert_equal_z(predictions(planned), expected_z)


def test_another_start_lists_what_is_left_and_the_first_one_still_counts(planned, sample, small_model, monkeypatch):
    first = read_start(RunFolder(str(planned)))
    assert run_rank_job(str(planned), index=1) == 0
    again = plan(sample, small_model, planned)
    assert again["ranks"] == RANKS - 1
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert run_rank_job(str(planned), start=first.name) == 0  # rank 1, which is committed
    assert run_rank_job(str(planned)) == 0  # rank 2, the second that is left
    assert sorted(path.stem for path in (planned / "predictions").iterdir()) == ["rank-0000001", "rank-0000002"]
    assert run_rank_job(str(planned), index=1) == 0  # no rank of this start, as it is done


def test_a_start_may_be_written_twice_and_another_of_its_name_is_refused(planned):
    start = read_start(RunFolder(str(planned)))
    again = {"target": start.target, "name": start.name}
    assert write_start(start.job, start.run_id, start.model, **again).ranks == RANKS
    items = planned / "items.json"
    items.write_text(json.dumps(json.loads(items.read_text())[1:]))
    with pytest.raises(LocationError, match=start.name):
        write_start(start.job, start.run_id, start.model, **again)


def test_a_folder_may_move_between_plan_and_ranks(planned, tmp_path, expected_z):
    there = planned.rename(tmp_path / "elsewhere")
    assert [run_rank_job(str(there), index=rank) for rank in range(RANKS)] == [0] * RANKS
    skyfan("aggregate", there, "-q")
    assert_equal_z(predictions(there), expected_z)


def test_several_models_are_found_where_the_run_is(sample, small_model, tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(small_model.read_bytes())
    output = tmp_path / "run"
    plan(sample, small_model, output, "--model", other)
    there = output.rename(tmp_path / "elsewhere")
    assert run_rank_job(str(there), index=0) == 0


def test_a_dataset_that_changed_is_bad_input_and_the_aggregator_tells(planned, sample):
    assert run_rank_job(str(planned), index=0) == 0
    content = bytearray(sample.path.read_bytes())
    sample.path.write_bytes(content + b"more")
    assert run_rank_job(str(planned), index=2) == BadInput.exit_code
    assert run_rank_job(str(planned), index=2) == BadInput.exit_code
    files = sorted(path.name for path in (planned / "failures").rglob("*.json"))
    assert files == ["rank-0000002-1.json", "rank-0000002-2.json"]
    with pytest.raises(
        SkyfanError,
        match=r"rank 2 failed: .*sky\.pt.*\(4 of 5 ranks are missing; what is committed, 1 rank, .*skyfan plan --write",
    ):
        skyfan("aggregate", planned, "-q")
    summary = json.loads((planned / "summary.json").read_text())
    assert summary["completeness"]["missing_ranks"] == [1, 2, 3, 4]
    assert list(summary["failures"]) == ["2"]
    assert summary["attempts"] == 3


def test_a_failure_takes_the_first_free_number_and_the_last_one_is_reported(planned):
    folder = RunFolder(str(planned))
    start = read_start(folder).name
    for number, message in enumerate(("first", "second"), start=1):
        failure = RankFailure.of(1, number, SkyfanError(message), retry=False, host="node7")
        assert write_failure(folder, start, failure).endswith(f"rank-0000001-{number}.json")
    assert read_failures(folder, start, frozenset()) == ({1: "SkyfanError: second"}, 2)
    assert read_failures(folder, start, {1}) == ({}, 2)


def test_a_folder_that_was_not_planned_for_an_array_is_refused(sample, small_model, tmp_path, capsys):
    assert run_rank_job(str(tmp_path / "nothing"), index=0) == BadInput.exit_code
    assert "--write" in capsys.readouterr().err
    with pytest.raises(LocationError, match="--write"):
        skyfan("aggregate", tmp_path / "nothing")


def test_a_position_beyond_the_ranks_is_refused(planned, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    assert run_rank_job(str(planned)) == BadInput.exit_code
    assert "task 5 has no rank: 5 are to do" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [("--collectives",), ("--compute", "batch")])
def test_what_an_array_does_not_promise_is_refused_and_nothing_is_written(sample, small_model, tmp_path, asked):
    with pytest.raises(BadInput, match=asked[0]):
        plan(sample, small_model, tmp_path / "run", *asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("entry", [("skyfan", "rank"), ("services.executor.job",)])
def test_sigterm_ends_a_rank_as_worth_another_try_and_leaves_nothing_partial(planned_long, entry):
    process = subprocess.Popen(
        [sys.executable, "-m", *entry, str(planned_long), "--index", "0"],
        env=os.environ | {"SKYFAN_LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)  # while it loads the model, or computes
        rest = process.stderr.read()
        code = process.wait(timeout=60)
    assert "rank started" in first
    assert code == 75, rest
    assert not (planned_long / "predictions").exists()
    assert list(failures(planned_long)) == [0]
    assert run_rank_job(str(planned_long), index=0) == 0


def test_sigterm_before_the_rank_begins_is_worth_another_try(planned_long):
    command = [sys.executable, "-X", "importtime", "-m", "skyfan", "rank", str(planned_long), "--index", "0"]
    with subprocess.Popen(command, stderr=-1) as process:
        while b"skyfan.errors" not in process.stderr.readline():
            pass
        while b"typer" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(timeout=60) == 75
