"""Fan in: account for every rank, merge records and predictions, write the summary and the report."""

import os
import platform
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import structlog

from skyfan import store
from skyfan._version import __version__
from skyfan.cost import bill, load_prices, priced_region, rank_times, recorded_region, usage_of_ranks
from skyfan.errors import DatasetError, Interrupted, RunConflict
from skyfan.formats import checksums
from skyfan.job import LAMBDA, Compute
from skyfan.planning import Plan, Span
from skyfan.records import (
    MAX_LISTED_FAILURES,
    CollectivesSummary,
    Completeness,
    Cost,
    RankRecord,
    Summary,
    Throughput,
    Timing,
)
from skyfan.report import import_page
from skyfan.report.galaxies import Observed, observe
from skyfan.report.shown_rows import shown_rows
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder, write_json
from skyfan.stages.judging import classes_summary, judge
from skyfan.stages.merging import Merged, merge
from skyfan.stages.messages import AggregateRequest
from skyfan.stages.trained_galaxies import is_noticed

if TYPE_CHECKING:
    from skyfan.report.page import Pictures

MAX_CAVEATS = 5
ABSENT = "rank is missing"
ENDED_EARLY = "the rank ended between its commit and the end of the collectives"


def aggregate(request: AggregateRequest, cancelled: threading.Event | None = None) -> Summary:
    """Writes `<rank>.json` where one is missing, combined_data.json, report.html and summary.json.

    Raises:
        Interrupted: `cancelled` was set; no summary is written, so that the run does not look finished.
        DatasetError: with --verify-reads, what all ranks read together is not what was saved; no summary is written.
    """
    start = time.perf_counter()
    plan = RunFolder(request.output).read_plan()
    folder = RunLedger(request.output, plan.results_schema)
    if plan.run_id != request.run_id:
        raise RunConflict(
            f"{request.output} holds run {plan.run_id} by now, not {request.run_id}; run again elsewhere."
        )

    def go_on() -> None:
        if cancelled is not None and cancelled.is_set():
            raise Interrupted("stopped before the summary was written; the same command writes it.")

    with _beside() as beside:
        beside.submit(import_page)
        merged = merge(folder, plan, go_on)
        verified = _verified_tensors(plan, merged.records)
        write_json(folder.combined_uri, [record.to_json_dict() for record in merged.records])
        observed = _observe(folder, plan, merged)
        go_on()
        pictures = beside.submit(_draw, merged, observed)
        summary = _summary(request, plan, merged, observed, start).model_copy(update={"verified_tensors": verified})
        go_on()
        _put_report(folder, summary, merged, pictures.result())
    # The summary comes last: with it the run is finished, and nothing is left for another start to do.
    go_on()
    write_json(folder.summary_uri, summary.to_json_dict())
    structlog.get_logger("aggregator").info(
        "aggregated",
        run_id=request.run_id,
        state=summary.state,
        ranks=summary.completeness.ranks_present,
        of=summary.completeness.ranks_planned,
    )
    return summary


@contextmanager
def _beside() -> Iterator[ThreadPoolExecutor]:
    """A thread for the page's pictures: they take as long as the metrics, and neither needs the other."""
    with ThreadPoolExecutor(1, thread_name_prefix="skyfan-page") as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def aggregate_again(ledger: RunLedger) -> Summary:
    """The summary of a run whose aggregation never came, from what its ranks committed."""
    plan = ledger.read_plan()
    return aggregate(
        AggregateRequest(output=ledger.uri, run_id=plan.run_id, target="report", reused_ranks=plan.working_ranks)
    )


def write_report(folder: RunLedger, plan: Plan, summary: Summary) -> None:
    """Writes report.html again, from a summary that exists."""
    merged = merge(folder, plan)
    _put_report(folder, summary, merged, _draw(merged, _observe(folder, plan, merged)))


def _observe(folder: RunLedger, plan: Plan, merged: Merged) -> Observed:
    anomalies = merged.anomalies.samples if merged.anomalies else ()
    observed = observe(plan, merged.redshifts.galaxies, anomalies)
    names = [name for name in (plan.id_column, "ra", "dec") if name is not None]
    rows = shown_rows(folder, plan, [one.index for one in observed.outliers], names)
    return replace(observed, rows_of=rows)


def _draw(merged: Merged, observed: Observed) -> "Pictures":
    from skyfan.report.page import draw_pictures

    return draw_pictures(merged.records, merged.redshifts, observed)


def _put_report(folder: RunFolder, summary: Summary, merged: Merged, pictures: "Pictures") -> None:
    from skyfan.report.page import fill_page

    store.put(folder.report_uri, fill_page(summary, merged.records, pictures).encode())


def _verified_tensors(plan: Plan, records: Sequence[RankRecord]) -> int | None:
    """How many tensors all ranks together read whole, each equal to what was saved; None without --verify-reads."""
    read = [record.read_checksums for record in records if record.read_checksums is not None]
    if not read:
        return None
    try:
        return checksums.verify(plan.files, (one for ranges in read for one in ranges))
    except DatasetError as error:
        raise DatasetError(f"{error} Then run again with --no-resume: the predictions are of damaged data.") from error


def _summary(request: AggregateRequest, plan: Plan, merged: Merged, observed: Observed, start: float) -> Summary:
    completeness = account(plan, merged.records)
    state: Literal["complete", "incomplete", "failed"] = (
        "complete" if completeness.complete else "incomplete" if merged.records else "failed"
    )
    fresh = _fresh(request, merged.records)
    judged = judge(plan, merged, observed)
    timing = _timing(request, fresh, time.perf_counter() - start)
    return Summary(
        run_id=plan.run_id,
        state=state,
        dataset=plan.job.dataset,
        model=", ".join(plan.job.models),
        model_digest=plan.model_digest,
        output=request.output,
        target=request.target,
        options=plan.job.options.model_dump(),
        world_size=plan.world_size,
        workers=request.workers,
        partition_size_bytes=plan.job.partition_size_bytes,
        samples=plan.samples,
        data_bytes=plan.data_bytes,
        completeness=completeness,
        timing=timing,
        throughput=_throughput(fresh, timing),
        cost=estimate_cost(merged.records, request, plan.job.compute),
        **judged,
        caveats=tuple(dict.fromkeys(file.note for file in plan.files if file.note))[:MAX_CAVEATS],
        calibration=plan.calibration.model_dump() if plan.calibration else None,
        classes=classes_summary(merged.classes) if merged.classes else None,
        anomalies=merged.anomalies,
        ids=merged.ids,
        catalog=plan.catalog,
        left_out=plan.files[0].left_out,
        trained_samples=merged.trained_samples if is_noticed(plan, merged.trained_samples) else 0,
        replaced_values=_total(record.replaced_values for record in merged.records),
        samples_replaced=sum(record.samples_replaced for record in merged.records),
        undeclared_sentinels=_total(record.undeclared_sentinels for record in merged.records),
        collectives=_collectives(fresh),
        attempts=_attempts(request, merged.records),
        reused_ranks=len(merged.records) - len(fresh),
        failures=dict(sorted(request.failures.items())[:MAX_LISTED_FAILURES]),
        environment={
            "skyfan": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "system": platform.system(),
            "cpus": os.cpu_count(),
            "engines": sorted({f"{r.engine} {r.engine_version}" for r in merged.records}),
            "threads": sorted({r.threads for r in merged.records}),
            "devices": sorted({r.device for r in merged.records}),
            "hosts": count_hosts(merged.records),
        },
        created_at=datetime.now(UTC).isoformat(),
    )


def account(plan: Plan, records: tuple[RankRecord, ...]) -> Completeness:
    """Every planned sample is predicted, or missing for a reason that is named."""
    present = {record.rank for record in records}
    absent = [rank for rank in plan.working_ranks if rank not in present]
    reasons = _total(record.missing_reasons for record in records)
    lost = sum(span.samples for rank in absent for span in plan.ranks[rank])
    if lost:
        reasons[ABSENT] = lost
    missing = sum(reasons.values())
    return Completeness(
        ranks_planned=len(plan.working_ranks),
        ranks_present=len(present),
        missing_ranks=tuple(absent),
        samples_planned=plan.samples,
        samples_predicted=plan.samples - missing,
        samples_missing=missing,
        missing_reasons=reasons,
        missing_sample_ranges=_ranges([span for rank in absent for span in plan.ranks[rank]]),
    )


def _total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _ranges(spans: list[Span]) -> tuple[tuple[int, int], ...]:
    """Dataset sample ranges of the spans, neighbours joined."""
    merged: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: span.first_sample):
        stop = span.first_sample + span.samples
        if merged and merged[-1][1] == span.first_sample:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((span.first_sample, stop))
    return tuple(merged)


def _fresh(request: AggregateRequest, records: tuple[RankRecord, ...]) -> list[RankRecord]:
    """Records of the ranks that this start of the run had to compute; the others are reused."""
    reused = frozenset(request.reused_ranks)
    return [record for record in records if record.rank not in reused]


def _timing(request: AggregateRequest, fresh: list[RankRecord], aggregate_s: float) -> Timing:
    """Times of this start of the run; ranks that an earlier start committed do not count into the map.

    Clocks of ranks may differ or be set while they run: between two of them is never more than the run's duration.
    """
    starts = [datetime.fromisoformat(record.started_at) for record in fresh]
    ends = [datetime.fromisoformat(record.ended_at) for record in fresh]
    wall_s = request.elapsed_s + aggregate_s
    durations = [record.wall_s for record in fresh] or [0.0]
    return Timing(
        wall_s=wall_s,
        plan_s=request.plan_s,
        map_s=min(wall_s, (max(ends) - min(starts)).total_seconds()) if fresh else 0.0,
        aggregate_s=aggregate_s,
        rank_s_median=statistics.median(durations),
        rank_s_max=max(durations),
        launch_skew_s=min(wall_s, (max(starts) - min(starts)).total_seconds()) if fresh else 0.0,
    )


def _throughput(fresh: list[RankRecord], timing: Timing) -> Throughput:
    """Samples and bits of this start's ranks over its map and wall time."""
    samples = sum(record.samples for record in fresh)
    bits = 8 * sum(record.bytes_read for record in fresh)

    def rate(amount: float, duration_s: float) -> float:
        return amount / duration_s if duration_s > 0 else 0.0

    return Throughput(
        samples_per_s_map=rate(samples, timing.map_s),
        samples_per_s_wall=rate(samples, timing.wall_s),
        bits_per_s_map=rate(bits, timing.map_s),
        bits_per_s_wall=rate(bits, timing.wall_s),
    )


def _collectives(fresh: list[RankRecord]) -> CollectivesSummary | None:
    """How this start's ranks fared together; every rank that took part to the end has the same metrics."""
    met = {record.rank: record.collectives for record in fresh if record.collectives is not None}
    if not met:
        return None
    complete = [each for each in met.values() if each.state == "complete"]
    skews_s = [each.launch_skew_s for each in met.values() if each.launch_skew_s is not None]
    errors = {rank: each.error or ENDED_EARLY for rank, each in met.items() if each.state != "complete"}
    return CollectivesSummary(
        ranks=len(met),
        complete=len(complete),
        channel=next(iter(met.values())).channel,
        launch_skew_s=max(skews_s, default=None),
        science=next((each.science for each in complete), None),
        times=next((each.times for each in complete if each.times), None),
        errors=dict(sorted(errors.items())[:MAX_LISTED_FAILURES]),
    )


def _attempts(request: AggregateRequest, records: tuple[RankRecord, ...]) -> int:
    """Attempts of all ranks, those of earlier starts by the records of what they committed."""
    return max(request.attempts, sum(record.attempt for record in records))


def count_hosts(records: tuple[RankRecord, ...]) -> int:
    """Machines that computed ranks; on Lambda, where sandboxes share host names, log streams."""
    return len({record.log_stream or record.host for record in records})


def estimate_cost(records: tuple[RankRecord, ...], request: AggregateRequest, compute: Compute = LAMBDA) -> Cost | None:
    """An estimate of the ranks' cost on what computed them, or on Lambda, from their records; None without records.

    Memory size, architecture and region are those in the records; without them Lambda's largest size in us-east-1.
    `skyfan cost` gives the same number.
    """
    if not records:
        return None
    times = rank_times(record.to_json_dict() for record in records)
    usage = usage_of_ranks(times, attempts=_attempts(request, records), compute=compute)
    prices, truth = load_prices(), "AWS's own bill can differ" if request.target == "aws" else "not billed"
    region = priced_region(prices, recorded_region(times) or "us-east-1")
    where = f"AWS Lambda with {usage.memory_mb} MB ({usage.architecture})"
    if compute != LAMBDA:
        machine = usage.instance_type or "Fargate"
        where = f"{machine} ({compute}), on demand, without the machines' start and idling"
    return bill(usage, prices, region).as_cost(
        f"estimate: these ranks' wall times on {where}, prices of {region}; {truth}"
    )
