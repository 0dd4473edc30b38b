"""A run whose ranks another scheduler starts: what comes before them, and what comes after."""

import time
from datetime import UTC, datetime

from skyfan.backends.retry_policy import exceeds_tolerance, first_failure
from skyfan.engines.device import AUTO, available_device
from skyfan.engines.threads import available_threads
from skyfan.errors import BadInput, SkyfanError
from skyfan.events import Listener, PhaseStarted, Planned, Warned, counting
from skyfan.job import LAMBDA, Job
from skyfan.planning import Plan
from skyfan.records import Summary
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from skyfan.stages.aggregate import aggregate
from skyfan.stages.failure_files import read_failures
from skyfan.stages.messages import AggregateRequest, ConvertRequest, PlanRequest, PreparedModel, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from skyfan.stages.starts import Start, ranks_of, read_start, write_start
from skyfan.units import counted


def check_array_job(job: Job) -> None:
    """Refuses what ranks cannot do that a scheduler starts when it likes.

    Raises:
        BadInput: the ranks are to talk to each other, or to be computed by a service of AWS.
    """
    if job.compute != LAMBDA:
        raise BadInput(f"--compute {job.compute} is for --on aws; leave it out.")
    if job.collectives:
        raise BadInput("--collectives needs all ranks at once, which a scheduler does not promise; leave it out.")


def prepare_array(job: Job, listener: Listener, *, measure_rate: bool = False) -> tuple[PreparedModel, ModelCache]:
    """Reads the model in this process and tries it; nothing is written.

    Raises:
        BadInput: the job, its dataset or its model cannot be used.
    """
    check_array_job(job)
    # Of this machine, which may be a login node without the GPU that the ranks have.
    models = ModelCache(threads=available_threads(), device=available_device(AUTO))
    listener(PhaseStarted("preparing"))
    prepared = prepare(PrepareRequest(job=job, measure_rate=measure_rate), models, counting(listener))
    for warning in prepared.warnings:
        listener(Warned(warning))
    return prepared, models


def plan_array(
    job: Job, listener: Listener, *, target: str, prepared: PreparedModel, models: ModelCache
) -> tuple[Start, Plan]:
    """Plans the run, claims its output, leaves the model there, and writes a start for a scheduler's tasks.

    `target` is the scheduler's name, as the summary will have it.

    Raises:
        BadInput: the run cannot be planned; nothing was written.
    """
    listener(PhaseStarted("planning"))
    began = time.perf_counter()
    reply = plan(PlanRequest(job=job, model=prepared), counting(listener))
    plan_s = time.perf_counter() - began
    planned = RunFolder(job.output).read_plan()
    listener(Planned(planned, reply.committed_ranks))
    listener(PhaseStarted("converting"))
    ranks = len(planned.working_ranks) - len(reply.committed_ranks)
    model = convert(ConvertRequest(job=job, model=prepared, executors=max(1, ranks)), models)
    return write_start(job, reply.run_id, model, target=target, plan_s=plan_s), planned


def aggregate_array(output: str, start_name: str | None = None) -> Summary:
    """Merges what the ranks of a start, or of earlier ones, committed; the summary names those that failed, and why.

    Raises:
        BadInput: there is no planned run, or no such start.
        SkyfanError: more ranks failed than the job tolerates; the summary is written.
    """
    folder = RunFolder(output)
    start = read_start(folder, start_name)
    planned = folder.read_plan()
    ledger = RunLedger(output, planned.results_schema)
    committed = frozenset(ledger.committed_of(planned))
    reused = frozenset(planned.working_ranks) - ranks_of(folder, start)
    failures, failed_attempts = read_failures(folder, start.name, committed)
    summary = aggregate(
        AggregateRequest(
            output=output,
            run_id=start.run_id,
            target=start.target,
            workers=start.job.workers,
            elapsed_s=max(0.0, (datetime.now(UTC) - start.planned_at).total_seconds() + start.plan_s),
            reused_ranks=tuple(sorted(reused)),
            plan_s=start.plan_s,
            failures=failures,
            attempts=len(committed - reused) + failed_attempts,
        )
    )
    return check_tolerated(summary, start.job)


def check_tolerated(summary: Summary, job: Job) -> Summary:
    """The summary, where no more ranks are missing than the job tolerates.

    Raises:
        SkyfanError: there are more; the first failed rank's error.
    """
    missing = len(summary.completeness.missing_ranks)
    if exceeds_tolerance(missing, summary.completeness.ranks_planned, job.tolerated_failure_percentage):
        raise _too_many_missing(summary, missing)
    return summary


def _too_many_missing(summary: Summary, missing: int) -> SkyfanError:
    planned, present = summary.completeness.ranks_planned, summary.completeness.ranks_present
    account = (
        f"{missing} of {planned} ranks are missing; what is committed, {counted(present, 'rank')}, is kept, and the "
        "same skyfan run, or skyfan plan --write and skyfan rank, computes the rest"
    )
    if not summary.failures:
        rank = summary.completeness.missing_ranks[0]
        return SkyfanError(f"rank {rank} left neither predictions nor a reason; see its scheduler's log ({account}).")
    return first_failure(summary, account)
