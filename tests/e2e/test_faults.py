"""Workers die, calls are lost, users interrupt: nothing is lost and nothing counts twice."""

import asyncio
import datetime
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pyarrow as pa
import pytest

import skyfan
from skyfan.backends.process import ProcessServices
from skyfan.backends.retry_policy import RetryPolicy, exceeds_tolerance
from skyfan.errors import BadInput, Busy, DatasetError, SkyfanError, Transient
from skyfan.events import RankCommitted, RankFailed, RankProgress, RankRetried
from skyfan.runs.predictions import readable
from tests.conftest import make_sample
from tests.e2e.support import assert_equal_z, make_job, predictions, run


class Faulty(ProcessServices):
    """The services in this process, with faults by a table: (rank, attempt) → error before or after the work."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.before, self.after = before or {}, after or {}

    async def infer(self, request, listener):
        key = (request.item.rank, request.attempt)
        if key in self.before:
            raise self.before[key]
        record = await super().infer(request, listener)
        if key in self.after:
            raise self.after[key]
        return record


def test_a_lost_rank_is_computed_again_and_its_record_counts_the_attempts(sample, small_model, expected_z, tmp_path):
    events = []
    target = Faulty(before={(3, 1): Transient("gone"), (3, 2): Transient("gone again")})
    summary = run(make_job(sample.path, small_model, tmp_path / "run"), target, events)
    assert [event.attempt for event in events if isinstance(event, RankRetried)] == [1, 2]
    assert_equal_z(predictions(tmp_path / "run"), expected_z)
    attempts = {event.rank: event.record.attempt for event in events if isinstance(event, RankCommitted)}
    assert attempts == {rank: 3 if rank == 3 else 1 for rank in range(9)}
    assert summary.attempts == 11


def test_a_rank_whose_answer_was_lost_after_its_commit_counts_once(sample, small_model, expected_z, tmp_path):
    events = []
    summary = run(
        make_job(sample.path, small_model, tmp_path / "run"), Faulty(after={(0, 1): Transient("no answer")}), events
    )
    first = next(event.record for event in events if isinstance(event, RankCommitted) and event.rank == 0)
    assert first.attempt == 1  # the first attempt's record is the one that counts
    assert summary.completeness.samples_predicted == len(expected_z)
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_bad_input_is_not_tried_again_and_what_is_done_stays(sample, small_model, expected_z, tmp_path):
    events = []
    job = make_job(sample.path, small_model, tmp_path / "run")
    with pytest.raises(DatasetError, match="rank 4 failed"):
        run(job, Faulty(before={(4, 1): DatasetError("broken")}), events)
    assert not any(isinstance(event, RankRetried) for event in events)
    assert [event.rank for event in events if isinstance(event, RankFailed)] == [4]
    assert (tmp_path / "run" / "summary.json").exists()
    run(job)
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


def test_tolerated_failures_leave_an_incomplete_run_that_says_what_is_missing(sample, small_model, tmp_path):
    target = Faulty(before={(8, 1): BadInput("broken")})
    job = make_job(sample.path, small_model, tmp_path / "run", tolerated_failure_percentage=20.0)
    summary = run(job, target)
    assert summary.state == "incomplete"
    assert summary.completeness.missing_ranks == (8,)
    (start, stop), *others = summary.completeness.missing_sample_ranges
    assert others == []
    assert stop == len(sample.redshift)
    assert stop - start == summary.completeness.samples_missing
    assert summary.failures == {8: "broken"}


def test_a_worker_that_is_busy_with_another_run_is_waited_for(sample, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("skyfan.backends.fan_out.BUSY_INTERVAL_S", 0.001)
    refusals = iter([Busy("busy")] * 20)

    class Shared(ProcessServices):
        async def infer(self, request, listener):
            if refusal := next(refusals, None):
                raise refusal
            return await super().infer(request, listener)

    events = []
    summary = run(make_job(sample.path, small_model, tmp_path / "run", world_size=2), Shared(), events)
    assert summary.attempts == 2
    assert not any(isinstance(event, RankRetried) for event in events)


def test_a_failure_above_the_tolerance_stops_the_ranks_in_flight(tmp_path, sample, small_model):
    class Slow(ProcessServices):
        concurrency = 2

        async def infer(self, request, listener):
            if request.item.rank == 0:
                raise BadInput("broken")
            await asyncio.sleep(3600)

    with pytest.raises(BadInput, match="rank 0 failed"):
        run(make_job(sample.path, small_model, tmp_path / "run", world_size=2), Slow())


def test_tolerance_counts_all_ranks_of_the_run_after_a_resume_too(sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", tolerated_failure_percentage=20.0)
    for _ in range(2):
        assert run(job, Faulty(before={(8, 1): BadInput("broken")})).state == "incomplete"


@pytest.mark.parametrize("jump_s", [-86400, 86400])
def test_a_clock_that_is_set_while_it_runs_changes_no_result(sample, small_model, tmp_path, monkeypatch, jump_s):
    class Clock(datetime.datetime):
        set_by_s = 0

        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=cls.set_by_s)

    for module in ("skyfan.stages.measure", "skyfan.stages.aggregate"):
        monkeypatch.setattr(f"{module}.datetime", Clock)

    def listener(event):
        if isinstance(event, RankCommitted) and event.rank == 4:
            Clock.set_by_s = jump_s

    summary = run(make_job(sample.path, small_model, tmp_path / "run"), events=listener)
    assert (summary.state, summary.reused_ranks) == ("complete", 0)
    times = summary.timing
    assert 0 <= times.map_s <= times.wall_s < 3600
    assert 0 <= times.launch_skew_s <= times.wall_s
    assert all(record.ended_at >= record.started_at for record in skyfan.open_run(str(tmp_path / "run")).records)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("libopenvino.so: failed to map segment from shared object"),
        RuntimeError(
            "Exception from core.cpp:117:\nException from plugin.cpp:54:\nResource temporarily unavailable\n\n"
        ),
        RuntimeError("could not create a primitive"),
    ],
)
def test_no_memory_is_a_sentence(sample, small_model, tmp_path, error):
    class Full(ProcessServices):
        async def prepare(self, request, listener):
            raise error

    with pytest.raises(SkyfanError, match="may not use more memory"):
        run(make_job(sample.path, small_model, tmp_path / "run"), Full())


def test_too_little_address_space_is_a_sentence_before_anything_starts(sample, small_model, tmp_path):
    """Libraries that get none end the process themselves, by exit code 1 or a signal."""
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (15 * 10**8,) * 2); "
    for on in ("process", "local"):
        arguments = ["-m", "skyfan", "run", "--quiet", "--on", on, "--output", str(tmp_path / on)]
        arguments += ["--dataset", str(sample.path), "--model", str(small_model)]
        done = subprocess.run(
            [sys.executable, "-c", f"{limited}os.execv(sys.executable, [sys.executable, *{arguments!r}])"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, "raise the limit: ulimit -v unlimited" in done.stderr) == (4, True), done.stderr
        assert not (tmp_path / on).exists()


def test_a_reader_without_memory_is_not_told_that_the_file_is_damaged():
    with pytest.raises(MemoryError), readable("rank.parquet"):
        raise pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable")


def test_other_errors_of_an_engine_are_not_taken_for_no_memory(sample, small_model, tmp_path):
    class Unable(ProcessServices):
        async def prepare(self, request, listener):
            raise RuntimeError("could not create a primitive descriptor for a matmul primitive")

    with pytest.raises(RuntimeError, match="descriptor"):
        run(make_job(sample.path, small_model, tmp_path / "run"), Unable())


def test_retries_end(sample, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(RetryPolicy, "delay_s", lambda *_: 0.0)
    target = Faulty(before={(0, attempt): Transient("gone") for attempt in range(1, 99)})
    with pytest.raises(Transient, match="rank 0 failed"):
        run(make_job(sample.path, small_model, tmp_path / "run"), target)


def test_backoff_grows_to_a_limit_and_is_jittered():
    policy = RetryPolicy(interval_s=1, backoff_rate=2, max_delay_s=5)
    delays = {retry: [policy.delay_s(retry, random.Random(seed)) for seed in range(300)] for retry in (1, 2, 9)}
    assert [round(max(found)) for found in delays.values()] == [1, 2, 5]
    assert all(min(found) < 0.1 for found in delays.values())


@pytest.mark.parametrize(
    ("failed", "total", "percentage", "exceeded"),
    [(0, 9, 0, False), (1, 9, 0, True), (1, 10, 10, False), (2, 10, 10, True)],
)
def test_tolerance_is_a_percentage_of_all_ranks(failed, total, percentage, exceeded):
    assert exceeds_tolerance(failed, total, percentage) is exceeded


def executors_of(pid):
    return [
        p for p in psutil.Process(pid).children(recursive=True) if "skyfan.serving executor" in " ".join(p.cmdline())
    ]


@pytest.mark.slow
def test_an_executor_killed_in_mid_rank_is_replaced_and_the_run_completes(small_model, tmp_path):
    large = make_sample(tmp_path / "large.pt", samples=1500)
    job = make_job(large.path, small_model, tmp_path / "run", batch_size=4, world_size=2, workers=2)
    events, killed = [], []

    def listener(event):
        events.append(event)
        if isinstance(event, RankProgress) and not killed:
            for victim in executors_of(os.getpid()):  # all: which of them has the rank is not told
                victim.kill()
                killed.append(victim.pid)

    summary = run(job, "local", listener)
    assert killed
    assert any(isinstance(event, RankRetried) for event in events)
    assert summary.state == "complete"
    run(job.model_copy(update={"output": str(tmp_path / "alone")}))
    assert_equal_z(predictions(tmp_path / "run"), predictions(tmp_path / "alone")["z_pred"].to_numpy())
    assert not executors_of(os.getpid())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_same_command_finishes(sample, small_model, expected_z, tmp_path, number):
    command = [sys.executable, "-m", "skyfan.cli", "run", "--dataset", str(sample.path), "--model", str(small_model)]
    command += ["--output", str(tmp_path / "run"), "--partition-size", "250KB", "--batch-size", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("predictions/*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not [child for child in children if child.is_running()]
    assert subprocess.run([*command, "--quiet"], timeout=120, check=False).returncode == 0
    assert_equal_z(predictions(tmp_path / "run"), expected_z)


@pytest.mark.slow
def test_services_on_loopback_do_without_the_certificates_of_a_network(sample, small_model, tmp_path, monkeypatch):
    for name in ("CERT", "KEY", "CA"):
        monkeypatch.setenv(f"SKYFAN_TLS_{name}", str(tmp_path / "of-another-host.pem"))
    assert run(make_job(sample.path, small_model, tmp_path / "run"), "local").state == "complete"
