"""The aggregator on Lambda: `aggregate` after the map, `fail` when the pipeline itself failed, and stopped runs."""

from datetime import UTC, datetime

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan import store
from skyfan.errors import BadInput, RunConflict
from skyfan.reference_payload import parse_execution_input
from skyfan.runs.folder import RunFolder, write_json
from skyfan.serving.lambda_dispatch import make_handler
from skyfan.serving.lambda_events import (
    STATUS_CHANGE,
    AggregateEvent,
    AggregateResult,
    FailEvent,
    FailResult,
    MarkResult,
    StatusChange,
)
from skyfan.serving.map_results import failed_ranks
from skyfan.serving.stopped_runs import mark_stopped
from skyfan.settings import FunctionSettings, read
from skyfan.stages.aggregate import aggregate
from skyfan.stages.items import ranks_to_compute
from skyfan.stages.messages import AggregateRequest


def _aggregate(event: AggregateEvent, _context: LambdaContext, _metrics: Metrics) -> AggregateResult:
    job, plan, started_at = event.job, event.plan, event.execution.started_at
    folder = RunFolder(job.output)
    reused = frozenset(folder.read_plan().working_ranks) - ranks_to_compute(folder)
    summary = aggregate(
        AggregateRequest(
            output=job.output,
            run_id=plan.run_id,
            target=read(FunctionSettings).target,
            workers=job.workers,
            elapsed_s=max(0.0, (datetime.now(UTC) - started_at).total_seconds()),
            reused_ranks=tuple(sorted(reused)),
            plan_s=(plan.planned_at - started_at).total_seconds(),
            failures=failed_ranks(f"s3://{plan.results.bucket}/{plan.results.prefix}", started_at),
        )
    )
    return AggregateResult(
        status="complete" if summary.state == "complete" else "incomplete",
        summary=folder.summary_uri,
        ranks_done=summary.completeness.ranks_present,
        samples_done=summary.completeness.samples_predicted,
        samples_total=summary.completeness.samples_planned,
    )


def _fail(event: FailEvent, _context: LambdaContext, _metrics: Metrics) -> FailResult:
    """Writes the cause where the user looks; another run's folder is left alone."""
    try:
        output = parse_execution_input(event.input).output
    except BadInput:
        return FailResult(recorded=None)  # the input names no usable output; the execution itself shows the cause
    if event.failure.Error == RunConflict.error_name():
        return FailResult(recorded=None)
    uri = store.join(output, f"failure-{event.execution.name}.json")
    failure = {"error": event.failure.Error, "cause": event.failure.Cause}
    write_json(uri, {**failure, "execution": event.execution.model_dump(mode="json")})
    return FailResult(recorded=uri)


def _stopped(event: StatusChange, _context: LambdaContext, _metrics: Metrics) -> MarkResult:
    """EventBridge's own event, as it comes: the ranks of an execution that was stopped are to end."""
    return MarkResult(marked=mark_stopped(event.detail))


handler = make_handler(
    "aggregator",
    {
        "aggregate": (AggregateEvent, _aggregate),
        "fail": (FailEvent, _fail),
        STATUS_CHANGE: (StatusChange, _stopped),
    },
)
