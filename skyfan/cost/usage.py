"""From a run's records to what AWS bills for it."""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB
from skyfan.cost.bill import Invocation, Usage
from skyfan.cost.prices import Architecture
from skyfan.errors import BadInput
from skyfan.job import LAMBDA, Compute

T = TypeVar("T")

# What infra/terraform takes, or names first; which one it was no record tells.
USUAL_INSTANCES: dict[Compute, str] = {"batch-gpu": "g5.xlarge", "sagemaker": "ml.c5.4xlarge"}

# Objects of a run besides the ranks' own: plan, map items, combined_data, summary, report.
_RUN_PUTS = 5
# A rank writes its predictions (the commit) and its record; the aggregator reads each back once.
RANK_PUTS = 2
_RANK_GETS_BY_AGGREGATOR = 2
# The states of the pipeline that a run enters, the map among them and its children aside (infra/stepfunctions).
PIPELINE_STATES = 11
# One child workflow is started (a transition) and enters one task (another); a retry enters it again.
_TRANSITIONS_PER_RANK = 2
# Lambda's own START, END and REPORT lines and the executor's structured lines; an assumption, not measured.
LOG_BYTES_PER_INVOCATION = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class RankTime:
    """The part of a rank's record that its bill depends on.

    `memory_mb` and `architecture` are those of the rank's Lambda function, `region` is where it ran; None where the
    rank did not run on Lambda.
    """

    wall_s: float
    compute_s: float
    requests: int
    peak_rss_mb: float
    vcpus: float
    memory_mb: int | None = None
    architecture: Architecture | None = None
    region: str | None = None


def rank_times(records: Iterable[Mapping[str, Any]]) -> list[RankTime]:
    """Reads rank records of Skyfan (those with a `schema`).

    Raises:
        BadInput: there is none, or they are the reference system's, whose seconds are profiler seconds.
    """
    times = []
    for record in records:
        if "schema" not in record:
            raise BadInput(
                "these rank records have no schema: they hold the reference system's profiler seconds, which are "
                "not billed durations; give Lambda's REPORT lines by --report-lines."
            )
        times.append(
            RankTime(
                # Lambda also bills what ranks of --collectives wait for after their commit.
                wall_s=record["wall_s"] + ((record.get("collectives") or {}).get("end_s") or 0.0),
                compute_s=min(record["compute_s"], record["wall_s"]),
                requests=int(record.get("s3_num_requests") or 0),
                peak_rss_mb=record["peak_rss_bytes"] / 2**20,
                vcpus=float(record.get("threads") or 1),
                memory_mb=record.get("memory_mb"),
                architecture=record.get("architecture"),
                region=record.get("region"),
            )
        )
    if not times:
        raise BadInput("the run has no rank record; there is nothing to bill.")
    return times


def recorded_region(ranks: Iterable[RankTime]) -> str | None:
    """The region in which most ranks ran; None where no rank ran on Lambda."""
    return _most_common(rank.region for rank in ranks)


def usage_of_ranks(
    ranks: Sequence[RankTime],
    *,
    attempts: int | None = None,
    memory_mb: int | None = None,
    architecture: Architecture | None = None,
    compute: Compute = LAMBDA,
) -> Usage:
    """The run as AWS bills it.

    Each rank is billed with `memory_mb`, else with the memory size in its record, else with Lambda's largest. The
    architecture is chosen likewise, as one for the run (that of most ranks). Attempts beyond one a rank are billed
    with the median duration, because their own is not recorded.

    On Batch and SageMaker the same seconds are those of tasks on Fargate, or of instances of the usual type with one
    rank at a time: less than what is billed, as machines start, idle and end, too.
    """
    extra = max(0, (attempts or len(ranks)) - len(ranks))
    invocations = [Invocation(rank.wall_s, memory_mb=memory_mb or rank.memory_mb) for rank in ranks]
    invocations += [Invocation(statistics.median(rank.wall_s for rank in ranks))] * extra
    return run_usage(
        invocations,
        len(ranks),
        reads=sum(rank.requests for rank in ranks),
        memory_mb=memory_mb or _most_common(rank.memory_mb for rank in ranks) or LAMBDA_MAX_MEMORY_MB,
        architecture=architecture or _most_common(rank.architecture for rank in ranks) or "x86_64",
        compute=compute,
    )


def run_usage(
    invocations: Sequence[Invocation],
    ranks: int,
    *,
    reads: int,
    memory_mb: int,
    architecture: Architecture,
    compute: Compute = LAMBDA,
) -> Usage:
    """What a run of `ranks` ranks uses beside its invocations: the one count for runs that were, and forecasts.

    `reads` are the ranks' own requests to S3. Keeping the results is not in it.
    """
    attempts = sum(one.count for one in invocations)
    on_lambda = compute == LAMBDA
    hours = 0.0 if on_lambda else math.fsum(one.duration_s * one.count for one in invocations) / 3600
    return Usage(
        fargate_h=hours if compute == "batch" else 0.0,
        instance_type=USUAL_INSTANCES.get(compute),
        instance_h=hours if compute in USUAL_INSTANCES else 0.0,
        invocations=invocations if on_lambda else [],
        memory_mb=memory_mb,
        architecture=architecture,
        transitions=pipeline_transitions(ranks, max(0, attempts - ranks)) if on_lambda else PIPELINE_STATES,
        s3_puts=_RUN_PUTS + RANK_PUTS * ranks,
        s3_gets=reads + _RANK_GETS_BY_AGGREGATOR * ranks,
        log_bytes=LOG_BYTES_PER_INVOCATION * attempts,
    )


def _most_common(values: Iterable[T | None]) -> T | None:
    known = Counter(value for value in values if value is not None)
    return max(known, key=known.__getitem__, default=None)


def pipeline_transitions(ranks: int, retries: int = 0) -> int:
    """State transitions of one run: the pipeline's own, two a rank, one a retry."""
    return PIPELINE_STATES + _TRANSITIONS_PER_RANK * ranks + retries
