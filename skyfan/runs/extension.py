"""Which plan counts where an earlier one was there first: that one, or it with ranks for the files that are new."""

from collections import Counter

from skyfan.layout import FileLayout
from skyfan.partitioning import distribute_ranks, make_partitions
from skyfan.planning import Generation, Plan, Span, is_same_run, relocated


def continued(earlier: Plan, plan: Plan, result_row_bytes: int = 0) -> Plan | None:
    """The plan by which `plan` goes on with what `earlier` began; None where it is another run.

    It is the earlier one with its files where they lie now, and with those that are new since, if there are any.
    """
    return relocated(earlier, plan) if is_same_run(earlier, plan) else _grown(earlier, plan, result_row_bytes)


def _grown(earlier: Plan, plan: Plan, result_row_bytes: int) -> Plan | None:
    """The earlier plan with all files of `plan`, those that it lacks as ranks of their own after its ranks.

    Old files keep their samples' numbers, wherever they lie now. The catalogue is the one of `plan`: it may have grown,
    too. None where this is no extension: files of the earlier plan are gone or changed, or anything else differs.
    """
    if not _is_same_but_for_files(earlier, plan):
        return None
    waiting = [file.identity for file in earlier.files]
    here: dict[str, list[FileLayout]] = {}
    for file in plan.files:
        here.setdefault(file.identity, []).append(file)
    if Counter(waiting) - Counter(file.identity for file in plan.files):
        return None
    old = tuple(here[identity].pop(0) for identity in waiting)
    new = tuple(file for file in plan.files if any(file is left for left in here[file.identity]))
    job = plan.job.model_copy(update={"output": earlier.job.output})
    if not new and not earlier.generations:
        return None  # of the same files: something else is not as it was
    if not new:
        return earlier.model_copy(update={"files": old, "job": job, "catalog": plan.catalog})
    partitions = make_partitions(new, plan.job.partition_size, result_row_bytes)
    ranks = distribute_ranks(partitions, new, plan.job.world_size, plan.rank_bytes, result_row_bytes)
    samples = sum(file.samples for file in new)
    generation = Generation(files=len(new), ranks=len(ranks), samples=samples)
    first = Generation(files=len(earlier.files), ranks=len(earlier.ranks), samples=earlier.samples)
    return earlier.model_copy(
        update={
            "job": job,
            "files": (*old, *new),
            "ranks": (*earlier.ranks, *(_after(spans, earlier) for spans in ranks)),
            "world_size": earlier.world_size + len(ranks),
            "samples": earlier.samples + samples,
            "data_bytes": earlier.data_bytes + sum(file.samples * file.sample_bytes for file in new),
            "partitions": earlier.partitions + len(partitions),
            "rank_bytes": plan.rank_bytes,
            "generations": (*(earlier.generations or (first,)), generation),
            "catalog": plan.catalog,
        }
    )


def _is_same_but_for_files(earlier: Plan, plan: Plan) -> bool:
    before, now = earlier.job, plan.job
    return (
        earlier.model_digest == plan.model_digest
        and before.options == now.options
        and before.partition_size_bytes == now.partition_size_bytes
        and before.file_limit is now.file_limit is None
        and bool(before.catalog) == bool(now.catalog)
        and _calibrated_on(earlier) == _calibrated_on(plan)
        and all(file.identity for file in earlier.files)
    )


def _calibrated_on(plan: Plan) -> str | None:
    return plan.calibration.identity if plan.calibration else None


def _after(spans: tuple[Span, ...], earlier: Plan) -> tuple[Span, ...]:
    """Spans of the new files as they are counted behind the old ones."""
    files = len(earlier.files)
    return tuple(
        span.model_copy(update={"file": span.file + files, "first_sample": span.first_sample + earlier.samples})
        for span in spans
    )
