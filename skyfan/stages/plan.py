"""Planning: files → layouts → partitions → ranks, from metadata alone."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import structlog

from skyfan import store
from skyfan.errors import BadInput, RankTooLarge
from skyfan.formats.catalog import Catalog
from skyfan.formats.dataset import Advance, read_layouts
from skyfan.job import AUTO_SIZE, DEFAULT_PARTITION_BYTES, GPU_COMPUTE, Job
from skyfan.layout import FileLayout
from skyfan.partitioning import (
    CONTAINER_OVERHEAD_BYTES,
    MAX_RESULT_BYTES,
    distribute_ranks,
    gpu_rank_bytes,
    make_partitions,
    max_rank_samples,
)
from skyfan.planning import Plan, Span, dataset_identity, run_identity
from skyfan.runs.commit import RunLedger
from skyfan.runs.extension import continued
from skyfan.stages.catalog_join import joined, open_catalog
from skyfan.stages.items import write_items
from skyfan.stages.messages import PlanReply, PlanRequest, PreparedModel
from skyfan.units import format_duration, format_size

# Loading the model and committing, of which a rank's time limit must leave room.
RANK_OVERHEAD_S = 20.0


def plan(request: PlanRequest, advance: Advance | None = None, cancelled: threading.Event | None = None) -> PlanReply:
    """Plans the run, claims its output and writes plan.json and the map's items; `advance` shows how far it is.

    Raises:
        RunConflict: the output belongs to another run.
        RankTooLarge: a rank would not end within its time limit.
        Interrupted: `cancelled` was set while the results of an earlier start were removed.
    """
    catalog = open_catalog(request.job)
    ledger = RunLedger(request.job.output)
    planned = _asked(request, catalog, ledger, advance)
    _check_rank_time(planned, request)
    with joined(planned, catalog, ledger) as (planned, write_catalog):
        row_bytes = request.model.result_row_bytes
        planned, committed = ledger.claim(
            planned, resume=request.job.resume, result_row_bytes=row_bytes, cancelled=cancelled
        )
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
    planned = _asked(request, open_catalog(request.job), ledger)
    if not store.exists(ledger.plan_uri):
        return len(planned.working_ranks)
    counts = continued(ledger.read_plan(), planned, request.model.result_row_bytes)
    if counts is None or not request.job.resume:
        return len((counts or planned).working_ranks)
    committed = replace(ledger, results_schema=counts.results_schema).committed_of(counts)
    return len(counts.working_ranks) - len(committed)


def _asked(request: PlanRequest, catalog: Catalog | None, ledger: RunLedger, advance: Advance | None = None) -> Plan:
    """The plan of what is asked; where the job leaves the ranks open, they are those of a run that is there."""
    earlier = ledger.read_plan() if _is_open(request.job) and store.exists(ledger.plan_uri) else None
    planned = _draft(request, catalog, advance, earlier)
    return planned.model_copy(update={"calibration": request.model.calibration})


def draft(
    job: Job,
    model_digest: str,
    advance: Advance | None = None,
    *,
    earlier: Plan | None = None,
    gpus: int = 0,
) -> Plan:
    """The plan of a model with narrow outputs, without writing anything.

    `earlier` is that of the run in the job's folder, `gpus` how many executors with a GPU will compute it.
    """
    model = PreparedModel(uri="", digest=model_digest, format="", parameters=0, needs_conversion=False, on_gpu=gpus > 0)
    request = PlanRequest(job=job, model=model, executors=max(1, gpus))
    return draft_request(request, advance, earlier)


def draft_request(request: PlanRequest, advance: Advance | None = None, earlier: Plan | None = None) -> Plan:
    """The plan that the request would have claimed, without writing anything.

    Raises:
        RankTooLarge: the job asks for so few ranks that one would have too large results.
    """
    return _draft(request, open_catalog(request.job), advance, earlier)


def _is_open(job: Job) -> bool:
    """Whether the job leaves it to the plan which ranks there are."""
    return job.partition_size == AUTO_SIZE and job.world_size is None and job.file_limit is None


def _ranks(
    request: PlanRequest, files: tuple[FileLayout, ...], partitions: list[Span], earlier: Plan | None
) -> tuple[tuple[tuple[Span, ...], ...], int | None]:
    """The ranks' work, and about how much data each has if they run on a GPU.

    Ranks are part of a run's identity: what a machine without GPUs began, one with GPUs goes on with, and conversely.
    """
    job, row_bytes, rank_bytes = request.job, request.model.result_row_bytes, None
    most = max_rank_samples(row_bytes)
    if _is_open(job):
        # Ranks too large for what this start writes are another run's, as its claim will say.
        if earlier is not None and _has_open_ranks_of(earlier, files) and _largest(earlier.ranks) <= most:
            return earlier.ranks, earlier.rank_bytes
        if request.model.on_gpu or job.compute == GPU_COMPUTE:
            # What a service of AWS starts is not known here: as many as the job allows, or one after the other.
            executors = job.workers or 1 if job.compute == GPU_COMPUTE else request.executors
            rate = request.model.samples_per_s if request.model.on_gpu else None
            rank_bytes = gpu_rank_bytes(files, partitions, executors, rate)
    return distribute_ranks(partitions, files, job.world_size, rank_bytes, row_bytes), rank_bytes


def _has_open_ranks_of(earlier: Plan, files: tuple[FileLayout, ...]) -> bool:
    """Whether these files were planned before by the default, so that the ranks of then may go on."""
    job = earlier.job
    return (
        job.partition_size_bytes == DEFAULT_PARTITION_BYTES
        and job.world_size is job.file_limit is None
        and not earlier.generations
        and all(file.identity for file in earlier.files)
        and [file.identity for file in earlier.files] == [file.identity for file in files]
    )


def _largest(ranks: Sequence[Sequence[Span]]) -> int:
    """Samples of the rank that has the most."""
    return max(sum(span.samples for span in spans) for spans in ranks)


def _draft(request: PlanRequest, catalog: Catalog | None, advance: Advance | None, earlier: Plan | None) -> Plan:
    job, result_row_bytes = request.job, request.model.result_row_bytes
    files = read_layouts(job.dataset, advance, columns=job, beside=catalog.planned if catalog else None)
    partitions = make_partitions(files, job.partition_size, result_row_bytes)
    if job.file_limit is not None:
        partitions = partitions[: job.file_limit]
    ranks, rank_bytes = _ranks(request, files, partitions, earlier)
    most = _largest(ranks)
    if most > max_rank_samples(result_row_bytes):
        raise RankTooLarge(
            f"--world-size {len(ranks)} would give a rank {format_size(most * result_row_bytes)} of predictions, more "
            f"than the {format_size(MAX_RESULT_BYTES)} that a rank writes; leave --world-size out, or take "
            f"{len(partitions)}."
        )
    return Plan(
        run_id=run_identity(
            files,
            ranks,
            request.model.digest,
            job.options,
            _calibrated_on(job, files),
            catalog.table.identity if catalog else None,
        ),
        job=job,
        model_digest=request.model.digest,
        world_size=len(ranks),
        samples=sum(part.samples for part in partitions),
        data_bytes=sum(part.samples * files[part.file].sample_bytes for part in partitions),
        partitions=len(partitions),
        files=files,
        ranks=ranks,
        rank_bytes=rank_bytes,
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
    samples = planned.rank_samples
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
