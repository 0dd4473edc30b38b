"""Which task of an array this process is, by what its scheduler tells it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skyfan.errors import BadInput

# "Processing container", https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html (read
# 2026-11): `hosts` has the names of all instances, `current_host` this one's.
SAGEMAKER_RESOURCES = Path("/opt/ml/config/resourceconfig.json")
# One variable a scheduler: sbatch(1), "Array jobs" of AWS Batch and "Indexed Job" of Kubernetes, read 2026-11.
_POSITION_VARIABLES = ("SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX", "JOB_COMPLETION_INDEX")


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """A task's position among the tasks, from 0, and how many there are; None: one rank a task."""

    position: int
    tasks: int | None = None

    def positions(self, ranks: int) -> range:
        """The task's positions in a list of `ranks` ranks: every `tasks`-th."""
        return range(self.position, ranks, self.tasks) if self.tasks else range(self.position, self.position + 1)


def find_task(
    environment: Mapping[str, str], tasks: int | None = None, resources: Path = SAGEMAKER_RESOURCES
) -> ArrayTask:
    """This process's task.

    A plain job of AWS Batch, and a SageMaker job's instances, share all ranks among them, and so do the tasks of one
    Slurm allocation. `tasks` is the length of an array whose tasks compute several ranks each.

    Raises:
        BadInput: no scheduler that is known started this process, or `tasks` does not fit.
    """
    found = _of_variables(environment) or _of_sagemaker(resources) or _of_allocation(environment)
    if found is None:
        raise BadInput(
            f"this process is no task of an array (none of {', '.join(_POSITION_VARIABLES)} is set); name a rank with "
            "--index N."
        )
    if tasks is None:
        return found
    if found.position >= tasks:
        raise BadInput(f"--tasks is {tasks}, but this is task {found.position}, counted from 0.")
    return ArrayTask(found.position, tasks)


def attempt_of(environment: Mapping[str, str]) -> int:
    """The number of this attempt, from 1, where the scheduler counts them."""
    if "AWS_BATCH_JOB_ATTEMPT" in environment:
        return max(1, _number(environment, "AWS_BATCH_JOB_ATTEMPT"))
    return 1 + (_number(environment, "SLURM_RESTART_COUNT") if "SLURM_RESTART_COUNT" in environment else 0)


def _of_variables(environment: Mapping[str, str]) -> ArrayTask | None:
    name = next((name for name in _POSITION_VARIABLES if environment.get(name)), None)
    if name:
        return ArrayTask(_number(environment, name))
    return ArrayTask(0, 1) if environment.get("AWS_BATCH_JOB_ID") else None


def _of_allocation(environment: Mapping[str, str]) -> ArrayTask | None:
    if not environment.get("SLURM_PROCID"):
        return None
    return ArrayTask(_number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS"))


def _of_sagemaker(resources: Path) -> ArrayTask | None:
    if not resources.is_file():
        return None
    try:
        content = json.loads(resources.read_text(encoding="utf-8"))
        hosts = sorted(content["hosts"])
        return ArrayTask(hosts.index(content["current_host"]), len(hosts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{resources} does not name this host among the job's hosts: {error!r}.") from error


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isascii() or not value.isdigit():
        raise BadInput(f"{name} is {value!r}; a scheduler sets it to a whole number.")
    return int(value)
