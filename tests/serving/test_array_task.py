"""Which ranks a task computes, by what its scheduler tells it."""

import json

import pytest

from skyfan.errors import BadInput
from skyfan.serving.array_task import attempt_of, find_task

NONE = {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environment", "tasks", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None, [3]),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ID": "x:0"}, None, [0]),
        ({"JOB_COMPLETION_INDEX": "6"}, None, [6]),
        ({"JOB_COMPLETION_INDEX": "2"}, 3, [2, 5]),
        ({"AWS_BATCH_JOB_ID": "x"}, None, [0, 1, 2, 3, 4, 5, 6]),  # a plain job
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, None, [1, 5]),  # srun in one allocation
    ],
)
def test_the_ranks_of_a_task(tmp_path, environment, tasks, expected):
    assert list(find_task(environment, tasks, tmp_path / "none").positions(7)) == expected


def test_instances_of_sagemaker_share_the_ranks_whatever_the_order_of_their_names(tmp_path):
    shared = []
    for host in ("algo-2", "algo-10", "algo-1"):
        resources = tmp_path / f"{host}.json"
        resources.write_text(json.dumps({"current_host": host, "hosts": ["algo-2", "algo-1", "algo-10"]}))
        shared += find_task(NONE, resources=resources).positions(8)
    assert sorted(shared) == list(range(8))


@pytest.mark.parametrize(
    ("environment", "tasks", "says"),
    [
        (NONE, None, "--index"),
        ({"SLURM_ARRAY_TASK_ID": "four"}, None, "SLURM_ARRAY_TASK_ID is 'four'"),
        ({"JOB_COMPLETION_INDEX": "4"}, 4, "--tasks is 4, but this is task 4"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path, environment, tasks, says):
    with pytest.raises(BadInput, match=says):
        find_task(environment, tasks, tmp_path / "none")


def test_a_damaged_resource_file_is_refused(tmp_path):
    resources = tmp_path / "resourceconfig.json"
    resources.write_text('{"hosts": ["algo-1"], "current_host": "algo-9"}')
    with pytest.raises(BadInput, match="does not name this host"):
        find_task(NONE, resources=resources)


def test_attempts_are_counted_by_the_scheduler():
    assert attempt_of(NONE) == 1
    assert attempt_of({"SLURM_RESTART_COUNT": "2"}) == 3
    assert attempt_of({"AWS_BATCH_JOB_ATTEMPT": "2"}) == 2
