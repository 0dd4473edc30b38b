"""The job, written once over any target: prepare, plan, fan out, aggregate."""

import secrets
import time
from datetime import UTC, datetime

import structlog

from skyfan.backends.base import Target
from skyfan.backends.fan_out import FanOut
from skyfan.comm.rank_group import RankGroup, form_group
from skyfan.errors import SkyfanError
from skyfan.events import Listener, PhaseStarted, Planned
from skyfan.job import Job
from skyfan.planning import Plan, PlanItem
from skyfan.records import RankRecord, Summary
from skyfan.runs.folder import RunFolder
from skyfan.stages.aggregate_messages import AggregateRequest
from skyfan.stages.infer_messages import InferRequest, PreparedModel, PrepareRequest
from skyfan.stages.plan_messages import PlanReply, PlanRequest


async def run_job(job: Job, target: Target, listener: Listener, started_at: datetime | None = None) -> Summary:
    """Runs or resumes the job; what ranks committed stays, whatever happens.

    Raises the first failed rank's error when more ranks failed than the job tolerates; the summary of what is
    there has been written then, and says what is missing. `started_at`: when the user asked, if the target's
    start was a part of it.
    """
    started_at = started_at or datetime.now(UTC)
    listener(PhaseStarted("preparing"))
    prepared = await target.prepare(PrepareRequest(model=job.model, dataset=job.dataset, options=job.options))
    listener(PhaseStarted("planning"))
    plan_start = time.perf_counter()
    request = _plan_request(job, prepared)
    if job.collectives and not job.resume:
        # Refused before anything is removed: a plan that resumes removes nothing.
        _group(job, target, (await target.plan(request.model_copy(update={"resume": True}))).ranks)
    reply = await target.plan(request)
    plan_s = time.perf_counter() - plan_start
    structlog.contextvars.bind_contextvars(run_id=reply.run_id)
    plan = RunFolder(job.output).read_plan()
    committed = frozenset(reply.committed_ranks)
    listener(Planned(reply, sum(plan.item(rank).samples for rank in committed)))
    unchanged = _finished_summary(job, reply)
    if unchanged:
        return unchanged
    group = _group(job, target, len(plan.working_ranks) - len(committed))
    fan_out = _fan_out(job, target, plan, committed, listener, group)
    listener(PhaseStarted("inferring"))
    await fan_out.run(item for item in plan.items() if item.rank not in committed)
    listener(PhaseStarted("aggregating"))
    summary = await target.aggregate(
        AggregateRequest(
            output=job.output,
            run_id=plan.run_id,
            target=target.name,
            workers=job.workers,
            started_at=started_at,
            plan_s=plan_s,
            failures={rank: str(error) for rank, error in fan_out.failures.items()},
            attempts=fan_out.attempts,
        )
    )
    if fan_out.failed:
        raise _first_failure(fan_out, summary)
    return summary


def _plan_request(job: Job, prepared: PreparedModel) -> PlanRequest:
    return PlanRequest(
        dataset=job.dataset,
        output=job.output,
        model=job.model,
        model_digest=prepared.digest,
        options=job.options,
        partition_size_bytes=job.partition_size_bytes,
        world_size=job.world_size,
        file_limit=job.file_limit,
        resume=job.resume,
    )


def _finished_summary(job: Job, reply: PlanReply) -> Summary | None:
    """The summary of this run if nothing is left to do and it was written."""
    if len(reply.committed_ranks) < reply.ranks:
        return None
    summary = RunFolder(job.output).read_summary()
    if summary is None or summary.run_id != reply.run_id or summary.completeness.ranks_present < reply.ranks:
        return None
    return summary


def _group(job: Job, target: Target, members: int) -> RankGroup | None:
    """Who meets in this start: the ranks that it computes. The name is this start's alone."""
    if not job.collectives:
        return None
    return form_group(
        f"start-{secrets.token_hex(8)}",
        members,
        at_once=target.at_once,
        more=target.more_at_once,
        rendezvous=target.rendezvous,
    )


def _fan_out(
    job: Job, target: Target, plan: Plan, committed: frozenset[int], listener: Listener, group: RankGroup | None
) -> FanOut:
    places = {rank: place for place, rank in enumerate(r for r in plan.working_ranks if r not in committed)}

    async def call(item: PlanItem, attempt: int) -> RankRecord:
        request = InferRequest(
            run_id=plan.run_id,
            item=item,
            model=job.model,
            model_digest=plan.model_digest,
            output=job.output,
            options=job.options,
            attempt=attempt,
            group=group and group.model_copy(update={"place": places[item.rank]}),
        )
        return await target.infer(request, listener)

    return FanOut(
        call=call,
        total=len(plan.working_ranks) - len(committed),
        planned=len(plan.working_ranks),
        concurrency=target.concurrency,
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
