"""Running again finishes what is missing, computes nothing twice, and touches nobody else's run."""

import json
import shutil
import threading
import time

import pyarrow.parquet as pq
import pytest

from skyfan import store
from skyfan.errors import BadInput, RunConflict
from skyfan.events import RankCommitted
from skyfan.runs.commit import RunLedger
from skyfan.stages.merging import merge
from tests.e2e.support import assert_equal_z, make_job, predictions, run


def committed(events):
    return [event.rank for event in events if isinstance(event, RankCommitted)]


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_computes_nothing_and_gives_the_same_summary(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run")
    first = run(job)
    events = []
    assert run(job, events=events) == first
    assert committed(events) == []


def test_only_what_is_missing_is_computed(sample, small_model, expected_z, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output)
    run(job)
    for rank in (2, 5):
        (output / "predictions" / f"rank-{rank:07d}.parquet").unlink()
    events = []
    summary = run(job, events=events)
    assert committed(events) == [2, 5]
    assert summary.reused_ranks == summary.completeness.ranks_planned - 2
    assert_equal_z(predictions(output), expected_z)


def test_no_resume_computes_all_of_it_again(sample, small_model, expected_z, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=3)
    run(job)
    events = []
    stranger = tmp_path / "run" / "predictions" / "rank-0000003.parquet"
    stranger.write_bytes(b"no rank of this run")
    run(job.model_copy(update={"resume": False}), events=events)
    assert committed(events) == [0, 1, 2]
    assert stranger.read_bytes() == b"no rank of this run"
    stranger.unlink()
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


@pytest.mark.parametrize(
    ("change", "named", "resume"),
    [
        ({"batch_size": 4}, "batch size", True),
        ({"world_size": 2}, "world size", False),
        ({"partition_size_bytes": 50_000}, "partition size", True),
        ({"file_limit": 2}, "file limit", False),
    ],
)
def test_another_run_in_the_same_place_is_refused_and_nothing_is_touched(
    sample, small_model, tmp_path, change, named, resume
):
    output = tmp_path / "run"
    run(make_job(sample.path, small_model, output))
    before = snapshot(output)
    with pytest.raises(RunConflict, match=named):
        run(make_job(sample.path, small_model, output, resume=resume, **change))
    assert snapshot(output) == before


def test_where_and_how_fast_it_runs_is_not_part_of_the_identity(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "a")
    other = job.model_copy(update={"output": str(tmp_path / "b"), "workers": 7, "tolerated_failure_percentage": 9.0})
    assert run(job).run_id == run(other).run_id


def test_a_changed_dataset_or_model_is_another_run(sample, small_model, tmp_path):
    from tests.conftest import make_sample

    first = run(make_job(sample.path, small_model, tmp_path / "a"))
    make_sample(sample.path, seed=4)
    assert run(make_job(sample.path, small_model, tmp_path / "b")).run_id != first.run_id


def test_copies_and_strangers_in_the_predictions_folder_do_not_count(sample, small_model, expected_z, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output)
    first = run(job)
    predicted = output / "predictions"
    shutil.copytree(predicted, tmp_path / "old")
    shutil.move(tmp_path / "old", predicted / "old")
    shutil.copy(predicted / "rank-0000003.parquet", predicted / "rank-0000999.parquet")
    (predicted / "rank-0000003.parquet").unlink()
    events = []
    summary = run(job, events=events)
    assert committed(events) == [3]
    assert summary.science["samples"] == first.science["samples"] == len(expected_z)


def test_a_summary_of_another_run_is_not_taken_for_this_one(sample, small_model, tmp_path):
    output = tmp_path / "run"
    run(make_job(sample.path, small_model, output))
    (output / "plan.json").unlink()
    with pytest.raises(RunConflict, match="belongs to run"):
        run(make_job(sample.path, small_model, output, batch_size=4))


@pytest.mark.parametrize("name", ["plan.json", "summary.json", "predictions/rank-0000000.parquet"])
def test_a_damaged_file_of_a_run_is_said_by_its_name(sample, small_model, tmp_path, name):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, world_size=2)
    run(job)
    (output / name).write_bytes(b"{}")
    if name.startswith("predictions"):
        (output / "summary.json").unlink()
    with pytest.raises(BadInput, match=f"{name} is damaged"):
        run(job)


def test_the_summary_is_written_last(sample, small_model, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, world_size=2)
    run(job)
    (output / "summary.json").unlink()
    (output / "report.html").unlink()
    (output / "report.html").mkdir()  # nothing can be written here
    with pytest.raises(BadInput):
        run(job)
    assert not (output / "summary.json").exists()


def test_a_second_start_with_no_resume_harms_neither_start(sample, small_model, expected_z, tmp_path):
    """It removes what the first one committed, in the middle of it; afterwards all is there, once."""
    job = make_job(sample.path, small_model, tmp_path / "run")
    second = []

    def start_again():
        second.append(run(job.model_copy(update={"resume": False})))

    class Watched(list):
        def append(self, event):
            super().append(event)
            if committed(self) == [0, 1, 2] and not second:
                thread = threading.Thread(target=start_again)
                thread.start()
                thread.join()

    first = run(job, events=Watched())
    assert [summary.state for summary in second] == ["complete"]
    assert first.state == "complete"
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_a_start_whose_ranks_were_removed_says_what_is_missing(sample, small_model, expected_z, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run")

    class Removing(list):
        def append(self, event):
            super().append(event)
            if isinstance(event, RankCommitted) and event.rank == 8:
                (tmp_path / "run" / "predictions" / "rank-0000003.parquet").unlink()

    summary = run(job, events=Removing())
    assert summary.state == "incomplete"
    assert summary.completeness.missing_ranks == (3,)
    assert run(job).state == "complete"
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_a_rank_removed_while_it_is_merged_is_missing_and_no_error(sample, small_model, tmp_path, monkeypatch):
    run(make_job(sample.path, small_model, tmp_path / "run", world_size=3))
    folder = RunLedger(str(tmp_path / "run"))
    monkeypatch.setattr(RunLedger, "committed_ranks", lambda _folder: iter([0, 1, 2]))
    (tmp_path / "run" / "predictions" / "rank-0000001.parquet").unlink()
    assert [record.rank for record in merge(folder, folder.read_plan()).records] == [0, 2]


def test_a_commit_goes_on_where_the_file_in_its_way_is_removed(sample, small_model, expected_z, tmp_path, monkeypatch):
    put_new, refused = store.put_new, []

    def refuse_once(uri, content):
        if uri.endswith("rank-0000002.parquet") and not refused:
            refused.append(uri)
            raise store.AlreadyExists("it was there a moment ago")
        return put_new(uri, content)

    monkeypatch.setattr(store, "put_new", refuse_once)
    assert run(make_job(sample.path, small_model, tmp_path / "run")).state == "complete"
    assert refused
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_the_record_in_the_file_has_the_time_of_encoding(sample, small_model, tmp_path, monkeypatch):
    write_table = pq.ParquetWriter.write_table

    def slowly(*arguments, **options):
        time.sleep(0.2)
        write_table(*arguments, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", slowly)
    summary = run(make_job(sample.path, small_model, tmp_path / "run", world_size=1))
    record = RunLedger(str(tmp_path / "run")).read_record(0, summary.run_id)
    assert 0.2 <= record.write_s <= record.wall_s
    assert json.loads((tmp_path / "run" / "0.json").read_text()) == record.to_json_dict()


def test_a_moved_copied_or_touched_dataset_resumes_and_is_read_where_it_lies_now(
    sample, small_model, expected_z, tmp_path
):
    data, moved, output = tmp_path / "data.pt", tmp_path / "elsewhere" / "data.pt", tmp_path / "run"
    shutil.copy(sample.path, data)
    first = run(make_job(data, small_model, output))
    moved.parent.mkdir()
    data.rename(moved)
    moved.touch()
    (output / "predictions" / "rank-0000002.parquet").unlink()
    events = []
    summary = run(make_job(moved, small_model, output), events=events)
    assert committed(events) == [2]
    assert summary.run_id == first.run_id
    assert_equal_z(predictions(output), expected_z)


def test_a_folder_planned_before_files_had_identities_resumes(sample, small_model, expected_z, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output)
    run(job)
    old_id = "0123456789abcdef"
    plan = json.loads((output / "plan.json").read_text())
    for file in plan["files"]:
        del file["identity"]
        for tensor in file["tensors"]:
            del tensor["crc32"]
    (output / "plan.json").write_text(json.dumps(plan | {"run_id": old_id}))
    shutil.rmtree(output / "predictions")
    assert run(job).run_id == old_id
    assert_equal_z(predictions(output), expected_z)
    events = []
    run(job, events=events)
    assert committed(events) == []
    sample.path.touch()
    (output / "plan.json").write_text(json.dumps(plan | {"run_id": old_id}))
    with pytest.raises(RunConflict, match="files changed"):
        run(job)


def test_an_added_file_is_told_as_such(sample, small_model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(sample.path, data / "1.pt")
    run(make_job(data, small_model, tmp_path / "run"))
    shutil.copy(sample.path, data / "2.pt")
    with pytest.raises(RunConflict, match=r"of 1 file, and .*data has 1 file more: add --extend"):
        run(make_job(data, small_model, tmp_path / "run"))
