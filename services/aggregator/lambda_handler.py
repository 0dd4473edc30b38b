"""The aggregator on Lambda: `aggregate` after the map, `fail` when the pipeline itself failed, and stopped runs."""

from datetime import UTC, datetime

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan import store
from skyfan.backends.retry_policy import exceeds_tolerance
from skyfan.errors import BadInput, RunConflict
from skyfan.planning import Plan
from skyfan.reference_payload import parse_execution_input
from skyfan.runs.commit import RunLedger
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
from skyfan.stages.failure_files import read_failures
from skyfan.stages.items import ranks_to_compute
from skyfan.stages.messages import AggregateRequest
from skyfan.stages.starts import ranks_of, read_start


def _aggregate(event: AggregateEvent, _context: LambdaContext, _metrics: Metrics) -> AggregateResult:
    job, plan, started_at = event.job, event.plan, event.execution.started_at
    folder = RunFolder(job.output)
    planned = folder.read_plan()
    to_compute, failures, attempts = (
        _of_array(plan.array.start, RunLedger(job.output, planned.results_schema), planned)
        if plan.array
        else _of_map(event, folder)
    )
    reused = frozenset(planned.working_ranks) - to_compute
    summary = aggregate(
        AggregateRequest(
            output=job.output,
            run_id=plan.run_id,
            target=read(FunctionSettings).target,
            workers=job.workers,
            elapsed_s=max(0.0, (datetime.now(UTC) - started_at).total_seconds()),
            reused_ranks=tuple(sorted(reused)),
            plan_s=(plan.planned_at - started_at).total_seconds(),
            failures=failures,
            attempts=attempts,
        )
    )
    return AggregateResult(
        status="complete" if summary.state == "complete" else "incomplete",
        summary=folder.summary_uri,
        ranks_done=summary.completeness.ranks_present,
        samples_done=summary.completeness.samples_predicted,
        samples_total=summary.completeness.samples_planned,
        too_many_failed=exceeds_tolerance(
            len(summary.completeness.missing_ranks), len(planned.working_ranks), job.tolerated_failure_percentage
        ),
    )


def _of_map(event: AggregateEvent, folder: RunFolder) -> tuple[frozenset[int], dict[int, str], int]:
    """The ranks that the map was given, and those that failed, by the map's own account, which counts no attempts."""
    results = event.plan.results
    failures = failed_ranks(f"s3://{results.bucket}/{results.prefix}", event.execution.started_at)
    return ranks_to_compute(folder), failures, 0


def _of_array(start: str, ledger: RunLedger, planned: Plan) -> tuple[frozenset[int], dict[int, str], int]:
    """The ranks of the start that the array was submitted for, those that left a failure file, and all attempts."""
    to_compute = ranks_of(ledger, read_start(ledger, start))
    committed = frozenset(ledger.committed_of(planned))
    failures, failed_attempts = read_failures(ledger, start, committed)
    return to_compute, failures, len(to_compute & committed) + failed_attempts


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
