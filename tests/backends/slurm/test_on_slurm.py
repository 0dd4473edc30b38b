"""`--on slurm` on a real Slurm."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import skyfan
from skyfan.backends.base import BackendSettings
from skyfan.backends.slurm.backend import SlurmBackend
from skyfan.backends.slurm.slurm_options import SlurmOptions
from skyfan.errors import BadInput, Interrupted, SkyfanError
from skyfan.events import ExecutionStarted, RankCommitted
from skyfan.serving.rank_job import run_rank_job
from tests.e2e.support import assert_equal_z, make_job, predictions

pytestmark = pytest.mark.slow
RANKS = 24
_DEADLINE_S = 300.0


def on_slurm(**options):
    stop = options.pop("stop_execution", lambda _execution: False)
    return SlurmBackend(BackendSettings(slurm=SlurmOptions(memory="1GB", **options), stop_execution=stop))


def task_process(output: Path, position: int) -> int | None:
    """The process that computes the ranks of this task of an array."""
    for folder in Path("/proc").iterdir():
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        words = command.split(b"\0")
        computes = b"rank" in words and str(output).encode() in words and b"srun" not in words[0]
        if computes and f"SLURM_ARRAY_TASK_ID={position}".encode() in environment:
            return int(folder.name)
    return None


def until(found, otherwise):
    """What `found` gives as soon as it gives something."""
    deadline_s = time.monotonic() + _DEADLINE_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, otherwise
        threading.Event().wait(0.02)
    return value


def when_running(output: Path, position: int) -> int:
    return until(lambda: task_process(output, position), f"task {position} does not start")


def test_an_array_survives_kills_a_requeue_a_duplicate_and_a_new_controller(
    cluster, sample, small_model, expected_z, tmp_path
):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, partition_size_bytes=4 * 20504 + 2048, world_size=RANKS, workers=4)
    events, backend = [], on_slurm()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(backend.run, job, events.append)
        try:
            for position in (1, 3):
                os.kill(when_running(output, position), signal.SIGKILL)
            when_running(output, 5)
            (array,) = (event.name.split()[2] for event in events if isinstance(event, ExecutionStarted))
            requeued = cluster.command("scontrol", "requeue", f"{array}_5")
            assert requeued.returncode == 0, requeued.stderr
            for position in (1, 3, 5):
                until(
                    lambda task=f"{array}_{position}": cluster.start_now(task), f"task {position} is not queued again"
                )
            cluster.restart_controller()
            when_running(output, 11)
            assert run_rank_job(str(output), index=11) == 0  # at the same time as the array's own
            summary = running.result(_DEADLINE_S)
        finally:
            backend.cancel()
    assert_equal_z(predictions(output), expected_z)
    assert summary.state == "complete"
    assert summary.target == "slurm"
    assert summary.completeness.ranks_present == RANKS
    assert len(list((output / "predictions").iterdir())) == RANKS
    assert sorted(event.rank for event in events if isinstance(event, RankCommitted)) == list(range(RANKS))
    attempts = {record.rank: record.attempt for record in skyfan.open_run(str(output)).records}
    assert [attempts[rank] for rank in (1, 3, 5)] == [2, 2, 2]


def test_ranks_in_one_allocation_share_the_work_and_failures_are_told(cluster, sample, small_model, tmp_path):
    output = tmp_path / "run"
    job = make_job(sample.path, small_model, output, partition_size_bytes=None, workers=2)
    folder = tmp_path / "parts"
    from skyfan.stages.partition_files import write_partitions

    write_partitions(str(sample.path), 30 * 20504 + 2048, str(folder), lambda done, total: None)
    job = job.model_copy(update={"dataset": str(folder), "output": str(output)})
    damage = folder / "2.pt"

    def listener(event):
        if isinstance(event, ExecutionStarted):
            damage.write_bytes(damage.read_bytes() + b"more")

    with pytest.raises(SkyfanError, match=r"rank 1 failed: .*2\.pt.*\(1 of 4 ranks are missing"):
        skyfan.run(job, on=on_slurm(layout="allocation"), progress=listener)
    summary = skyfan.open_run(str(output)).summary
    assert summary.completeness.missing_ranks == (1,)
    assert list(summary.failures) == [1]


def test_what_slurm_refuses_is_bad_input_with_slurms_own_words(cluster, sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=2)
    with pytest.raises(BadInput, match=r"sbatch failed: .*[Pp]artition"):
        skyfan.run(job, on=on_slurm(partition="nowhere"), progress=False)


def test_an_interrupt_cancels_the_jobs_where_the_user_says_so(cluster, sample, small_model, tmp_path):
    job = make_job(sample.path, small_model, tmp_path / "run", world_size=2)
    backend = on_slurm(sbatch=["--hold"], stop_execution=lambda _execution: True)
    names = []

    def listener(event):
        if isinstance(event, ExecutionStarted):
            names.append(event.name)
            backend.cancel()

    with pytest.raises(Interrupted, match="jobs are cancelled"):
        backend.run(job, listener)
    array, aggregation = names[0].split()[2::2]
    assert cluster.command("squeue", "--noheader", f"--jobs={array},{aggregation}").stdout == ""
