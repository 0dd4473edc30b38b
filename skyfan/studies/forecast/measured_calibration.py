"""A calibration from Skyfan's own runs: their rank records hold wall seconds, so that nothing is fitted."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from skyfan.aws_limits import LAMBDA_MAX_MEMORY_MB, LAMBDA_MAX_VCPUS, LAMBDA_MB_PER_VCPU, LAMBDA_MIN_MEMORY_MB
from skyfan.errors import BadInput
from skyfan.runs.finding import Record, RecordedRun
from skyfan.studies.billing.memory_sizes import speed
from skyfan.studies.forecast.forecast_calibration import Calibration, Spread
from skyfan.studies.forecast.map_simulation import Limits, Workload, simulate

_PARALLEL_SHARE = 0.9
_REPETITIONS = 5


def calibrate(runs: Sequence[RecordedRun]) -> Calibration:
    """Parameters from all ranks of Skyfan's runs among `runs`, and how well they predict the wall times of these runs.

    Raises:
        BadInput: none of the runs has Skyfan's rank records.
    """
    ours = [run for run in runs if run.has_schema]
    records = [record for run in ours for record in run.records if record["samples"]]
    if not records:
        raise BadInput("no Skyfan rank records to calibrate with; give folders of finished runs.")
    vcpus = min(LAMBDA_MAX_VCPUS, statistics.median(record["threads"] for record in records))
    a_sample = [_compute_s_per_sample(record, vcpus) for record in records]
    typical = statistics.median(a_sample)
    fixed_s, cold_s = _fixed(records)
    merge_s, merge_rank_s = _aggregate(ours)
    found = Calibration(
        source=f"{len(records)} ranks of {len(ours)} runs",
        plan_s=_median([_timing(run).get("plan_s") for run in ours]),
        start_interval_s=_median([_start_interval_s(run) for run in ours]),
        rank_fixed_s=fixed_s,
        cold_start_s=cold_s,
        compute_s_per_sample=typical,
        measured_vcpus=vcpus,
        parallel_share=_PARALLEL_SHARE,
        read_bytes_per_s=_bytes_per_wait_s(records),
        spread=Spread.measured([value / typical for value in a_sample]) if typical else Spread.none(),
        failure_share=_failure_share(ours),
        aggregate_s=merge_s,
        aggregate_s_per_rank=merge_rank_s,
    )
    return _with_fit(found, ours)


def _compute_s_per_sample(record: Record, vcpus: float) -> float:
    factor = speed(min(LAMBDA_MAX_VCPUS, record["threads"]), _PARALLEL_SHARE) / speed(vcpus, _PARALLEL_SHARE)
    return float(record["compute_s"] / record["samples"] * factor)


def _fixed(records: Sequence[Record]) -> tuple[float, float]:
    """(seconds of a rank in a warm process besides compute and waiting, more of one in a cold process)."""
    by_start: dict[bool, list[float]] = {True: [], False: []}
    for record in records:
        rest_s = record["wall_s"] - record["compute_s"] - record["wait_s"]
        by_start[bool(record["cold_start"])].append(max(0.0, rest_s))
    cold, warm = by_start[True], by_start[False]
    if not warm:
        return statistics.median(cold), 0.0  # no warm rank was measured: the forecast takes every rank as cold
    fixed_s = statistics.median(warm)
    return fixed_s, max(0.0, statistics.median(cold) - fixed_s) if cold else 0.0


def _bytes_per_wait_s(records: Sequence[Record]) -> float | None:
    """Bytes ÷ seconds that compute waited for them: reading that overlaps with compute costs no time."""
    waited_s = sum(record["wait_s"] for record in records)
    read = sum(record["bytes_read"] for record in records)
    return read / waited_s if waited_s > 0 and read > 0 else None


def _aggregate(runs: Sequence[RecordedRun]) -> tuple[float, float]:
    """(constant seconds, seconds per rank): a line through the runs' aggregate times, if their sizes differ."""
    points = [(len(run.records), _timing(run)["aggregate_s"]) for run in runs if "aggregate_s" in _timing(run)]
    if not points:
        return 0.0, 0.0
    counts, times = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    if len(set(counts.tolist())) > 1:
        slope, constant = np.polyfit(counts, times, 1)
        if slope >= 0 and constant >= 0:
            return float(constant), float(slope)
    return float(np.median(times)), 0.0


def _start_interval_s(run: RecordedRun) -> float | None:
    """Mean seconds between the starts of the first `workers` ranks, for which slots were free."""
    workers = (run.summary or {}).get("workers") or len(run.records)
    starts = sorted(datetime.fromisoformat(record["started_at"]) for record in run.records)[:workers]
    return (starts[-1] - starts[0]).total_seconds() / (len(starts) - 1) if len(starts) > 1 else None


def _failure_share(runs: Sequence[RecordedRun]) -> float:
    attempts = sum((run.summary or {}).get("attempts") or len(run.records) for run in runs)
    ranks = sum(len(run.records) for run in runs)
    return max(0, attempts - ranks) / attempts


def _timing(run: RecordedRun) -> Mapping[str, Any]:
    timing: Mapping[str, Any] = (run.summary or {}).get("timing", {})
    return timing


def _median(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(0.0, statistics.median(known)) if known else 0.0


def _with_fit(found: Calibration, runs: Sequence[RecordedRun]) -> Calibration:
    logs = [
        float(np.log(_timing(run)["wall_s"] / predict_run_s(run, found))) for run in runs if _timing(run).get("wall_s")
    ]
    if not logs:
        return found
    error = statistics.median(abs(np.expm1(-value)) for value in logs)
    sigma = float(np.sqrt(np.mean(np.square(logs))))
    fit = f"{len(logs)} runs (the fitted ones), median absolute error of wall time {error:.1%}"
    return found.model_copy(update={"residual_sigma": sigma, "fit": fit})


def predict_run_s(run: RecordedRun, calibration: Calibration) -> float:
    """Median simulated wall seconds of a measured run, with as many ranks at once as it had workers."""
    samples = [int(record["samples"]) for record in run.records]
    bytes_per_sample = round(sum(record["bytes_read"] for record in run.records) / max(1, sum(samples)))
    workers = (run.summary or {}).get("workers") or len(samples)
    threads = statistics.median(record["threads"] for record in run.records)
    memory_mb = min(LAMBDA_MAX_MEMORY_MB, max(LAMBDA_MIN_MEMORY_MB, round(threads * LAMBDA_MB_PER_VCPU)))
    work = Workload(samples, bytes_per_sample, memory_mb)
    limits = Limits(lambda_concurrency=workers, burst=workers)
    return statistics.median(simulate(work, calibration, limits, seed).wall_s for seed in range(_REPETITIONS))
