"""The partitioner on Lambda."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan.comm.connect import RENDEZVOUS_VARIABLE
from skyfan.comm.rank_group import form_group
from skyfan.errors import LocationError
from skyfan.job import Job
from skyfan.reference_payload import RunRequest
from skyfan.runs.folder import RunFolder
from skyfan.serving.lambda_dispatch import make_handler
from skyfan.stages import plan as core
from skyfan.stages.plan_messages import PlanRequest

RANK_LIMIT_VARIABLE = "SKYFAN_RANK_LIMIT_S"
# Lambda's own limit: "Lambda quotas", https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LAMBDA_LIMIT_S = 900.0


def _plan(event: Mapping[str, Any], _context: LambdaContext, _metrics: Metrics) -> dict[str, Any]:
    request = RunRequest.model_validate(event["request"])
    model = event["model"]
    job = Job.of_request(request)
    bucket, prefix = _bucket_and_prefix(request.output)
    asked = PlanRequest(
        dataset=job.dataset,
        output=request.output,
        model=model["uri"],
        model_digest=model["digest"],
        options=job.options,
        partition_size_bytes=job.partition_size_bytes,
        world_size=job.world_size,
        file_limit=job.file_limit,
        resume=job.resume,
        rank_limit_s=float(os.environ.get(RANK_LIMIT_VARIABLE, LAMBDA_LIMIT_S)),
        samples_per_s=model.get("samples_per_s"),
    )
    execution = event["execution"]["name"]
    if request.collectives and not job.resume:
        # Refused before anything is removed: a plan that resumes removes nothing.
        _group(request, core.plan(asked.model_copy(update={"resume": True})).ranks, execution)
    reply = core.plan(asked)
    ranks_to_run = reply.ranks - len(reply.committed_ranks)
    items_key = RunFolder(request.output).map_items_uri.removeprefix(f"s3://{bucket}/")
    return {
        "run_id": reply.run_id,
        "output": request.output,
        "ranks_total": reply.ranks,
        "ranks_to_run": ranks_to_run,
        "planned_at": datetime.now(UTC).isoformat(),
        "items": {"bucket": bucket, "key": items_key},
        "results": {"bucket": bucket, "prefix": f"{prefix}/map".lstrip("/")},
        "max_concurrency": request.max_concurrency,
        "tolerated_failure_percentage": request.tolerated_failure_percentage,
        "group": _group(request, ranks_to_run, execution),
    }


def _group(request: RunRequest, members: int, execution: str) -> dict[str, Any] | None:
    """Who meets in this execution, and where; a rank's place comes with its item."""
    if not request.collectives:
        return None
    group = form_group(
        execution,
        members,
        at_once=request.max_concurrency or None,
        more="give --workers {ranks} (max_concurrency)",
        rendezvous=os.environ.get(RENDEZVOUS_VARIABLE) or None,
    )
    return group.model_dump(mode="json", exclude={"place"})


def _bucket_and_prefix(output: str) -> tuple[str, str]:
    bucket, _, prefix = output.removeprefix("s3://").partition("/")
    if not output.startswith("s3://") or not bucket:
        raise LocationError(f"output is {output!r}; a run on Step Functions needs an s3://bucket/folder.")
    return bucket, prefix.strip("/")


handler = make_handler("partitioner", {"plan": _plan})
