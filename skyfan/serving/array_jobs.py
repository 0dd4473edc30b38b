"""Ranks on Batch or SageMaker in place of Lambda: what is deployed, and how many tasks a run asks for."""

import hashlib
import re

from skyfan.aws_limits import BATCH_ARRAY_SIZE, SAGEMAKER_INSTANCES, SAGEMAKER_VALUE_CHARACTERS
from skyfan.errors import BadInput
from skyfan.job import LAMBDA, Compute, Job
from skyfan.serving.lambda_events import ArrayJob
from skyfan.settings import FunctionSettings, read

# What infra/terraform calls the switch of each.
DEPLOYED_BY: dict[Compute, str] = {
    "batch": "enable_batch = true",
    "batch-gpu": 'enable_batch = true and batch_gpu_instance_types = ["g5.xlarge"]',
    "sagemaker": "enable_sagemaker = true",
}
_MOST_TASKS = {"batch": BATCH_ARRAY_SIZE, "batch-gpu": BATCH_ARRAY_SIZE, "sagemaker": SAGEMAKER_INSTANCES}
# SageMaker's names have 63 characters, of which the state machine takes 37 for a hyphen and a UUID.
_NAME_LENGTH = 26
_START_LENGTH = 80


def not_deployed(compute: Compute) -> BadInput:
    """The error of a job that asks for what is not there: it names the variable that deploys it."""
    return BadInput(
        f"compute is {compute!r}, which this deployment lacks; set {DEPLOYED_BY[compute]} for the Terraform module and "
        "apply it."
    )


def array_limit(job: Job) -> int | None:
    """The most tasks at once that the deployment has for this job; None: Lambda computes it.

    Raises:
        BadInput: what the job asks for is not deployed, or cannot compute it.
    """
    if job.compute == LAMBDA:
        return None
    deployed = read(FunctionSettings).computes
    if job.compute not in deployed:
        raise not_deployed(job.compute)
    if job.collectives:
        raise BadInput(f"collectives needs all ranks at once, which compute {job.compute!r} does not promise.")
    if job.compute == "sagemaker" and len(job.output) > SAGEMAKER_VALUE_CHARACTERS:
        raise BadInput(
            f"output has {len(job.output)} characters; SageMaker takes {SAGEMAKER_VALUE_CHARACTERS}; take a shorter."
        )
    return min(deployed[job.compute], _MOST_TASKS[job.compute])


def start_of(execution: str) -> str:
    """The name of an execution's start: its own name, where that can be one."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", execution).strip("-") or "run"
    if plain != execution or len(plain) > _START_LENGTH:  # two executions must not share a start
        digest = hashlib.sha256(execution.encode()).hexdigest()[:8]
        plain = f"{plain[: _START_LENGTH - 9].strip('-')}-{digest}"
    return plain


def array_job(job: Job, execution: str, run_id: str, ranks: int, most_tasks: int, plan_s: float) -> ArrayJob:
    """The array for these ranks: as many tasks as the job has workers, and no more than there are ranks."""
    start = start_of(execution)
    return ArrayJob(
        start=start,
        tasks=max(1, min(ranks, job.workers or most_tasks, most_tasks)),
        job_name=start[-_NAME_LENGTH:].strip("-"),
        run_id=run_id,
        plan_s=max(0.0, plan_s),
    )
