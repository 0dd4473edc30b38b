"""The partitioner on Lambda."""

import math
from datetime import UTC, datetime

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan.comm.rank_group import RankGroup, form_group
from skyfan.errors import LocationError
from skyfan.job import Job
from skyfan.planning import Plan
from skyfan.runs.folder import RunFolder
from skyfan.serving.array_jobs import array_job, array_limit
from skyfan.serving.lambda_dispatch import make_handler
from skyfan.serving.lambda_events import PlanEvent, PlanResult, S3Object, S3Prefix
from skyfan.settings import FunctionSettings, NetworkSettings, read
from skyfan.stages.messages import PlanRequest
from skyfan.stages.plan import count_ranks_to_run, plan


def _plan(event: PlanEvent, _context: LambdaContext, _metrics: Metrics) -> PlanResult:
    job, execution = event.job, event.execution.name
    bucket, prefix = _bucket_and_prefix(job.output)
    most_tasks = array_limit(job)
    limit_s = read(FunctionSettings).rank_limit_s if most_tasks is None else None
    request = PlanRequest(job=job, model=event.model, rank_limit_s=limit_s)
    if job.collectives:  # a group that cannot meet is refused before anything is claimed or removed
        _group(job, count_ranks_to_run(request), execution)
    reply = plan(request)
    folder = RunFolder(job.output)
    planned: Plan = folder.read_plan()
    ranks_to_run = len(planned.working_ranks) - len(reply.committed_ranks)
    planned_at = datetime.now(UTC)
    plan_s = (planned_at - event.execution.started_at).total_seconds()
    # Convert, which leaves what an array's tasks read, is not entered where there is nothing to do.
    array = None
    if most_tasks and ranks_to_run:
        array = array_job(job, execution, reply.run_id, ranks_to_run, most_tasks, plan_s)
    return PlanResult(
        run_id=reply.run_id,
        output=job.output,
        ranks_total=len(planned.working_ranks),
        ranks_to_run=ranks_to_run,
        planned_at=planned_at,
        items=S3Object(bucket=bucket, key=folder.map_items_uri.removeprefix(f"s3://{bucket}/")),
        results=S3Prefix(bucket=bucket, prefix=f"{prefix}/map".lstrip("/")),
        max_concurrency=_max_concurrency(job),
        tolerated_failure_percentage=_percentage_of_map(job, len(planned.working_ranks), ranks_to_run),
        group=_group(job, ranks_to_run, execution),
        array=array,
    )


def _group(job: Job, members: int, execution: str) -> RankGroup | None:
    """Which ranks talk to each other in this execution, and where; a rank's number comes with its item."""
    if not job.collectives:
        return None
    return form_group(
        execution,
        members,
        max_concurrency=_max_concurrency(job),
        scale_up_hint="give --workers {ranks}, within the deployment's map_concurrency",
        rendezvous=read(NetworkSettings).rendezvous,
    )


def _max_concurrency(job: Job) -> int:
    """Ranks at once: what the job asks for, but no more than the deployment allows."""
    allowed = read(FunctionSettings).map_concurrency
    return min(job.workers or allowed, allowed)


def _percentage_of_map(job: Job, ranks: int, ranks_to_run: int) -> int:
    """What the job tolerates of all ranks as a share of the map's, rounded up: the aggregator judges exactly."""
    return min(100, math.ceil(job.tolerated_failure_percentage * ranks / max(1, ranks_to_run)))


def _bucket_and_prefix(output: str) -> tuple[str, str]:
    bucket, _, prefix = output.removeprefix("s3://").partition("/")
    if not output.startswith("s3://") or not bucket:
        raise LocationError(f"output is {output!r}; a run on Step Functions needs an s3://bucket/folder.")
    return bucket, prefix.strip("/")


handler = make_handler("partitioner", {"plan": (PlanEvent, _plan)})
