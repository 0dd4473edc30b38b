"""`--collectives`: ranks that die, freeze, come late or never; nobody's end costs anybody's predictions."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from skyfan.comm.rank_group import RankGroup
from skyfan.errors import Interrupted
from skyfan.events import RankProgress
from skyfan.runs.commit import RunLedger
from skyfan.stages import collective_session
from skyfan.stages import infer as core
from skyfan.stages.model_cache import ModelCache
from tests.conftest import make_sample
from tests.e2e.collectives.ranks import RANKS, aggregate, infer, on_disk
from tests.e2e.support import assert_equal_z, make_job, predictions, run


def test_a_rank_that_died_after_its_commit_counts_and_the_summary_names_it(planned, group):
    infer(planned, group)
    folder = RunLedger(planned[1].job.output)
    folder.write_record(folder.read_record(1, planned[1].run_id))  # as it is between commit and end
    summary = aggregate(planned[0])
    assert summary.state == "complete"
    assert list(summary.collectives.errors) == [1]


def test_a_rank_that_never_comes_costs_the_others_a_deadline_and_nothing_else(
    planned, group, expected_z, tmp_path, monkeypatch
):
    # Within it both come that do come, each from a thread that loads its model first.
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 6.0)
    records = infer(planned[:2], group)
    for record in records:
        assert record.collectives.state == "failed"
        assert "rank 2 did not join" in record.collectives.error
        assert record.collectives.science is None
    alone = core.infer(planned[2], ModelCache(threads=1))
    assert alone.collectives is None
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_a_rank_that_gives_up_is_named_by_the_others_whose_predictions_stand(planned, group):
    control = core.Control(progress=lambda done, total: control.cancelled.set())
    began = time.monotonic()
    first, second, third = infer(planned, group, [None, None, control])
    assert isinstance(third, Interrupted)
    assert time.monotonic() - began < collective_session.END_TIMEOUT_S / 2
    for request, record in zip(planned, (first, second), strict=False):
        assert record.collectives.state == "failed"
        assert record.collectives.error.startswith("PeerLost: rank 2 gave up")
        assert record.collectives.launch_skew_s is not None
        assert on_disk(request) == record
    summary = aggregate(planned[0])
    assert summary.completeness.missing_ranks == (2,)
    assert (summary.collectives.ranks, summary.collectives.complete) == (2, 0)


def test_a_rank_stopped_at_the_start_barrier_ends_at_once_and_computes_nothing(planned, group, tmp_path):
    control = core.Control()
    threading.Timer(0.5, control.cancelled.set).start()
    (stopped,) = infer(planned[:1], group, [control])
    assert isinstance(stopped, Interrupted)
    assert "rank 0 was stopped while it waited for the other ranks" in str(stopped)
    assert not (tmp_path / "run" / "predictions").exists()


def test_a_rank_stopped_while_it_waits_for_the_slowest_keeps_its_commit(planned, group):
    control, committed = core.Control(), threading.Event()

    def stop_the_first(done, total):
        record = Path(RunLedger(planned[0].job.output).predictions_uri(0))
        while not record.exists():
            time.sleep(0.02)
        control.cancelled.set()
        committed.wait(30)

    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(infer, planned, group, [control, None, core.Control(progress=stop_the_first)])
        deadline = time.monotonic() + 30
        path = Path(RunLedger(planned[0].job.output).record_uri(0))
        while not path.exists() or '"failed"' not in path.read_text():
            assert time.monotonic() < deadline, "the stopped rank still waits"
            time.sleep(0.02)
        committed.set()
        first = whole.result()[0]
    assert first == on_disk(planned[0])
    assert first.collectives.error.startswith("Interrupted")


def test_the_slowest_rank_is_waited_for_until_a_deadline(planned, group, monkeypatch):
    monkeypatch.setattr(collective_session, "END_TIMEOUT_S", 1.0)
    folder = RunLedger(planned[0].job.output)

    deadline = time.monotonic() + 30
    others = [Path(folder.record_uri(rank)) for rank in (0, 1)]

    def dawdle(done, total):
        while time.monotonic() < deadline and not all(
            path.exists() and '"state": "failed"' in path.read_text() for path in others
        ):
            time.sleep(0.02)

    began = time.monotonic()
    records = infer(planned, group, [None, None, core.Control(progress=dawdle)])
    assert time.monotonic() - began < 30
    assert [record.collectives.state for record in records[:2]] == ["failed"] * 2
    assert any("CommTimeout" in record.collectives.error for record in records[:2])
    assert aggregate(planned[0]).state == "complete"


def test_a_retry_after_the_group_was_full_goes_on_alone_and_notes_it(planned, group):
    held = threading.Barrier(2)  # keeps two ranks at work until the third has failed and tried again

    def wait(done, total):
        if done == total:
            held.wait(60)

    stop = core.Control(progress=lambda done, total: stop.cancelled.set())
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(infer, planned, group, [core.Control(progress=wait), None, stop])
        deadline = time.monotonic() + 60
        while not stop.cancelled.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        asked = planned[2].model_copy(update={"attempt": 2, "group": group.model_copy(update={"group_rank": 2})})
        record = core.infer(asked, ModelCache(threads=1))
        held.wait(60)
        whole.result()
    assert record.attempt == 2
    assert record.collectives.state == "failed"
    assert "GroupRefused" in record.collectives.error
    assert aggregate(planned[0]).state == "complete"


def test_without_a_rendezvous_server_at_its_address_ranks_go_on_alone(planned, monkeypatch):
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 0.5)
    nobody = RankGroup(name="start-1", members=RANKS, rendezvous="127.0.0.1:1")
    for record in infer(planned, nobody):
        assert record.collectives.error.startswith("RendezvousLost")
    assert aggregate(planned[0]).state == "complete"


def test_errors_after_a_resume_say_the_group_rank_of_this_rank(planned, group, monkeypatch):
    monkeypatch.setattr(collective_session, "START_TIMEOUT_S", 0.3)
    two = group.model_copy(update={"members": 2, "group_rank": 0})
    record = core.infer(planned[2].model_copy(update={"group": two}), ModelCache(threads=1))
    assert record.collectives.error.endswith("(numbers are group ranks; rank 2 is 0)")


def test_no_wait_outlasts_what_the_caller_gives(planned, group, monkeypatch):
    monkeypatch.setattr(collective_session, "START_SHARE", 0.1)  # the rest is for the rank, on a busy machine
    began = time.monotonic()
    control = core.Control(remaining_s=lambda: began + 30 - time.monotonic())
    record = infer(planned[:1], group, [control])[0]
    assert record.collectives.state == "failed"
    assert time.monotonic() - began < 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_executor_that_dies_or_freezes_is_named_by_the_others(small_model, tmp_path, number):
    large = make_sample(tmp_path / "large.pt", samples=3000)
    job = make_job(large.path, small_model, tmp_path / "run", batch_size=4, world_size=3, workers=3, collectives=True)
    hit, begun = [], set()

    def listener(event):
        if isinstance(event, RankProgress):
            begun.add(event.rank)
        if len(begun) == 3 and not hit:  # a killed executor that had no partition yet loses nothing
            executors = [p for p in psutil.Process().children() if "skyfan.serving executor" in " ".join(p.cmdline())]
            os.kill(executors[0].pid, number)
            hit.append(executors[0])
            if number == signal.SIGSTOP:  # dead in the end, so that the driver's call ends
                threading.Timer(25, executors[0].kill).start()

    began = time.monotonic()
    summary = run(job, "local", listener)
    assert hit
    assert time.monotonic() - began < collective_session.END_TIMEOUT_S / 2
    assert summary.state == "complete"
    records = [json.loads((tmp_path / "run" / f"{rank}.json").read_text()) for rank in range(3)]
    (victim,) = [record["rank"] for record in records if record["attempt"] == 2]
    for record in records:
        expected = "GroupRefused" if record["rank"] == victim else f"rank {victim} was lost"
        assert expected in record["collectives"]["error"]
