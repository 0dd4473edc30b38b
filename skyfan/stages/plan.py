"""Planning: files → layouts → partitions → ranks, from metadata alone."""

from dataclasses import replace

import structlog

from skyfan import store
from skyfan.errors import BadInput, RankTooLarge
from skyfan.formats.catalog import Catalog
from skyfan.formats.dataset import Advance, read_layouts
from skyfan.job import Job
from skyfan.layout import FileLayout
from skyfan.planning import (
    CONTAINER_OVERHEAD_BYTES,
    MAX_RESULT_BYTES,
    Plan,
    dataset_identity,
    distribute,
    make_partitions,
    max_rank_samples,
    run_identity,
)
from skyfan.runs.commit import RunLedger
from skyfan.runs.extension import continued
from skyfan.stages.catalog import joined, open_catalog
from skyfan.stages.items import write_items
from skyfan.stages.messages import PlanReply, PlanRequest
from skyfan.units import format_duration, format_size

# Loading the model and committing, of which a rank's time limit must leave room.
RANK_OVERHEAD_S = 20.0


def plan(request: PlanRequest, advance: Advance | None = None) -> PlanReply:
    """Plans the run, claims its output and writes plan.json and the map's items; `advance` shows how far it is.

    Raises:
        RunConflict: the output belongs to another run.
        RankTooLarge: a rank would not end within its time limit.
    """
    catalog = open_catalog(request.job)
    planned = _asked(request, catalog, advance)
    _check_rank_time(planned, request)
    ledger = RunLedger(request.job.output)
    with joined(planned, catalog, ledger) as (planned, write_catalog):
        row_bytes = request.model.result_row_bytes
        planned, committed = ledger.claim(planned, resume=request.job.resume, result_row_bytes=row_bytes)
        write_catalog()
    write_items(planned, ledger, frozenset(committed))
    structlog.get_logger("partitioner").info(
        "planned",
        run_id=planned.run_id,
        samples=planned.samples,
        partitions=planned.partitions,
        ranks=len(planned.working_ranks),
        committed=len(committed),
    )
    return PlanReply(run_id=planned.run_id, committed_ranks=tuple(committed))


def count_ranks_to_run(request: PlanRequest) -> int:
    """How many ranks this start would compute; nothing is claimed, written or removed."""
    ledger = RunLedger(request.job.output)
    planned = _asked(request, open_catalog(request.job))
    if not store.exists(ledger.plan_uri):
        return len(planned.working_ranks)
    counts = continued(ledger.read_plan(), planned, request.model.result_row_bytes)
    if counts is None or not request.job.resume:
        return len((counts or planned).working_ranks)
    committed = replace(ledger, results_schema=counts.results_schema).committed_of(counts)
    return len(counts.working_ranks) - len(committed)


def _asked(request: PlanRequest, catalog: Catalog | None, advance: Advance | None = None) -> Plan:
    """The plan of what is asked, whatever an earlier start began."""
    planned = _draft(request.job, request.model.digest, request.model.result_row_bytes, advance, catalog)
    return planned.model_copy(update={"calibration": request.model.calibration})


def draft(job: Job, model_digest: str, result_row_bytes: int = 0, advance: Advance | None = None) -> Plan:
    """The plan, without writing anything; a model with wide outputs (`result_row_bytes`) may get smaller partitions.

    Raises:
        RankTooLarge: the job asks for so few ranks that one would have too large results.
    """
    return _draft(job, model_digest, result_row_bytes, advance, open_catalog(job))


def _draft(
    job: Job, model_digest: str, result_row_bytes: int, advance: Advance | None, catalog: Catalog | None
) -> Plan:
    files = read_layouts(job.dataset, advance, columns=job, beside=catalog.planned if catalog else None)
    partitions = make_partitions(files, job.partition_size, result_row_bytes)
    if job.file_limit is not None:
        partitions = partitions[: job.file_limit]
    world_size = job.world_size or len(partitions)
    ranks = distribute(partitions, world_size)
    most = max(sum(span.samples for span in spans) for spans in ranks)
    if most > max_rank_samples(result_row_bytes):
        raise RankTooLarge(
            f"--world-size {world_size} would give a rank {format_size(most * result_row_bytes)} of predictions, more "
            f"than the {format_size(MAX_RESULT_BYTES)} that a rank writes; leave --world-size out, or take "
            f"{len(partitions)}."
        )
    return Plan(
        run_id=run_identity(
            files,
            ranks,
            model_digest,
            job.options,
            _calibrated_on(job, files),
            catalog.table.identity if catalog else None,
        ),
        job=job,
        model_digest=model_digest,
        world_size=world_size,
        samples=sum(part.samples for part in partitions),
        data_bytes=sum(part.samples * files[part.file].sample_bytes for part in partitions),
        partitions=len(partitions),
        files=files,
        ranks=ranks,
    )


def _calibrated_on(job: Job, files: tuple[FileLayout, ...]) -> str:
    """The identity of what intervals are calibrated on, which is none of the dataset's files."""
    if job.calibrate is None:
        return ""
    others = read_layouts(job.calibrate, columns=job)
    known = {file.identity for file in files}
    for file in others:
        if file.identity in known:
            raise BadInput(
                f"--calibrate {file.uri} is one of the dataset's files: intervals calibrated on the galaxies that they "
                "are for look better than they are. Take a file of other galaxies."
            )
    return dataset_identity(others)


def _check_rank_time(planned: Plan, request: PlanRequest) -> None:
    if request.rank_limit_s is None or request.model.samples_per_s is None:
        return
    samples_per_s = request.model.samples_per_s
    fitting = int((request.rank_limit_s - RANK_OVERHEAD_S) * samples_per_s)
    samples = [sum(span.samples for span in spans) for spans in planned.ranks]
    largest = max(samples, default=0)
    if not largest or largest <= fitting:
        return
    size_bytes = max(1, fitting) * planned.files[0].sample_bytes + CONTAINER_OVERHEAD_BYTES
    needed_s = largest / samples_per_s + RANK_OVERHEAD_S
    raise RankTooLarge(
        f"rank {samples.index(largest)} would take about {format_duration(needed_s)} at {samples_per_s:.0f} samples/s, "
        f"more than the {format_duration(request.rank_limit_s)} that a rank has; plan partitions of at most "
        f"{format_size(size_bytes)} with one partition a rank, or take --compute batch, which has no such limit."
    )
