"""The job, written once over any services: prepare, plan, convert, fan out, aggregate."""

import asyncio
import secrets
import time

import structlog

from skyfan.backends.fan_out import FanOut
from skyfan.backends.finished import finished_summary
from skyfan.backends.services import Services
from skyfan.comm.rank_group import RankGroup, form_group
from skyfan.errors import SkyfanError
from skyfan.events import Listener, PhaseStarted, Planned, Warned
from skyfan.job import Job
from skyfan.planning import Plan, PlanItem
from skyfan.records import MAX_LISTED_FAILURES, RankRecord, Summary
from skyfan.runs.folder import RunFolder
from skyfan.stages.messages import (
    AggregateRequest,
    ConvertRequest,
    InferRequest,
    ModelFile,
    PlanRequest,
    PrepareRequest,
)
from skyfan.stages.plan import count_ranks_to_run


async def run_job(job: Job, services: Services, listener: Listener, started_s: float) -> Summary:
    """Runs or resumes the job; what ranks committed stays, whatever happens.

    `started_s`: when the user asked, by `time.monotonic`; starting the services is a part of the run's time.

    Raises:
        SkyfanError: the first failed rank's error, when more ranks failed than the job tolerates; the summary of what
            is there has been written then, and names what is missing.
    """
    listener(PhaseStarted("preparing"))
    prepared = await services.prepare(PrepareRequest(job=job), listener)
    for warning in prepared.warnings:
        listener(Warned(warning))
    listener(PhaseStarted("planning"))
    plan_start = time.perf_counter()
    request = PlanRequest(job=job, model=prepared, executors=max(1, services.max_concurrency))
    if job.collectives:  # a group that cannot meet is refused before anything is claimed or removed
        _group(job, services, await asyncio.to_thread(count_ranks_to_run, request))
    reply = await services.plan(request, listener)
    plan_s = time.perf_counter() - plan_start
    structlog.contextvars.bind_contextvars(run_id=reply.run_id)
    plan = RunFolder(job.output).read_plan()
    planned = Planned(plan, reply.committed_ranks)
    listener(planned)
    unchanged = finished_summary(job, planned)
    if unchanged:
        return unchanged
    committed = frozenset(reply.committed_ranks)
    to_run = tuple(rank for rank in plan.working_ranks if rank not in committed)
    group = _group(job, services, len(to_run))
    services.expect(len(to_run))
    listener(PhaseStarted("converting"))
    conversion = ConvertRequest(job=job, model=prepared, executors=max(1, min(services.max_concurrency, len(to_run))))
    model = await services.convert(conversion)
    await services.warm_up(conversion, len(to_run))
    fan_out = _fan_out(job, services, plan, to_run, model, listener, group)
    listener(PhaseStarted("inferring"))
    await fan_out.run(plan.item(rank) for rank in to_run)
    listener(PhaseStarted("aggregating"))
    summary = await services.aggregate(
        AggregateRequest(
            output=job.output,
            run_id=plan.run_id,
            target=services.name,
            workers=job.workers,
            elapsed_s=time.monotonic() - started_s,
            reused_ranks=reply.committed_ranks,
            plan_s=plan_s,
            failures={rank: str(error) for rank, error in sorted(fan_out.failures.items())[:MAX_LISTED_FAILURES]},
            attempts=fan_out.attempts,
        )
    )
    if fan_out.failed:
        raise _first_failure(fan_out, summary)
    return summary


def _group(job: Job, services: Services, members: int) -> RankGroup | None:
    """The ranks of this start, where they talk to each other. The name is this start's alone."""
    if not job.collectives:
        return None
    return form_group(
        f"start-{secrets.token_hex(8)}",
        members,
        max_concurrency=services.max_concurrency,
        scale_up_hint=services.scale_up_hint,
        rendezvous=services.rendezvous,
    )


def _fan_out(
    job: Job,
    services: Services,
    plan: Plan,
    to_run: tuple[int, ...],
    model: ModelFile,
    listener: Listener,
    group: RankGroup | None,
) -> FanOut:
    group_ranks = {rank: number for number, rank in enumerate(to_run)}

    async def call(item: PlanItem, attempt: int) -> RankRecord:
        request = InferRequest(
            run_id=plan.run_id,
            job=job,
            item=item,
            model=model,
            attempt=attempt,
            group=group and group.model_copy(update={"group_rank": group_ranks[item.rank]}),
        )
        return await services.infer(request, listener)

    return FanOut(
        call=call,
        total=len(to_run),
        planned=len(plan.working_ranks),
        concurrency=services.concurrency,
        listener=listener,
        tolerated_failure_percentage=job.tolerated_failure_percentage,
    )


def _first_failure(fan_out: FanOut, summary: Summary) -> SkyfanError:
    rank, error = min(fan_out.failures.items())
    count, present = len(fan_out.failures), summary.completeness.ranks_present
    return type(error)(
        f"rank {rank} failed: {error} ({count} of {fan_out.total} ranks failed; the {present} that are committed are "
        "kept, and the same command again computes the rest)"
    )
