"""Runs whose numbers are known, as plan, records, summary and predictions, without computing anything."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skyfan.formats.dataset import read_layouts
from skyfan.job import Job, PartitionSize
from skyfan.partitioning import distribute, make_partitions
from skyfan.planning import Plan
from skyfan.records import Cost, RankRecord, Summary, Throughput, Timing
from skyfan.runs.result_rows import ResultColumns, Rows
from skyfan.stages.aggregate import account

ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def make_plan(dataset: Path, partition_size: PartitionSize = 12 * 20504 + 2048) -> Plan:
    files = read_layouts(str(dataset))
    partitions = make_partitions(files, partition_size)
    return Plan(
        run_id="0123456789abcdef",
        job=Job(dataset=str(dataset), model="demo <b>", partition_size=partition_size),
        model_digest="d" * 64,
        world_size=len(partitions),
        samples=sum(file.samples for file in files),
        data_bytes=sum(file.samples * file.sample_bytes for file in files),
        partitions=len(partitions),
        files=files,
        ranks=distribute(partitions, len(partitions)),
    )


def make_record(rank: int, samples: int = 12, wall_s: float = 1.0, **change: Any) -> RankRecord:
    fields: dict[str, Any] = {
        "total_cpu_time (seconds)": 1.5,
        "total_cpu_memory (MB)": 300.0,
        "execution_time (seconds/batch)": 0.4,
        "num_batches": 2,
        "batch_size": 512,
        "device": "cpu",
        "throughput_bps": 1e6,
        "sample_persec": samples / wall_s,
        "result_path": "r",
        "data_path": "d",
        "s3_num_requests": 1,
        "s3_total_time": 0.1,
        "s3_avg_time": 0.1,
        "s3_min_time": 0.1,
        "s3_max_time": 0.1,
        "run_id": "0123456789abcdef",
        "rank": rank,
        "world_size": 9,
        "attempt": 1,
        "samples": samples,
        "samples_missing": 0,
        "missing_indices": (),
        "wall_s": wall_s,
        "load_s": 0.1,
        "read_s": 0.1,
        "wait_s": 0.1,
        "compute_s": wall_s - 0.3,
        "write_s": 0.1,
        "peak_rss_bytes": (300 + rank) * 2**20,
        "bytes_read": samples * 20504,
        "started_at": (ZERO + timedelta(seconds=rank / 10)).isoformat(),
        "ended_at": (ZERO + timedelta(seconds=rank / 10 + wall_s)).isoformat(),
        "host": "h",
        "pid": 1,
        "threads": 2,
        "engine": "torch",
        "engine_version": "2",
        "engine_reason": "only",
        "torch_version": "2",
        "precision": "float32",
        "model_digest": "d" * 64,
        "cold_start": rank == 0,
    }
    return RankRecord.model_validate(fields | change)


def make_summary(plan: Plan, records: tuple[RankRecord, ...], **change: Any) -> Summary:
    completeness = account(plan, records)
    fields: dict[str, Any] = {
        "run_id": plan.run_id,
        "state": "complete" if completeness.complete else "incomplete" if records else "failed",
        "dataset": plan.job.dataset,
        "model": plan.job.model,
        "model_digest": plan.model_digest,
        "output": "out",
        "target": "local",
        "options": plan.job.options.model_dump(),
        "world_size": plan.world_size,
        "workers": 2,
        "partition_size_bytes": plan.job.partition_size_bytes,
        "samples": plan.samples,
        "data_bytes": plan.data_bytes,
        "completeness": completeness,
        "timing": Timing(
            wall_s=3, plan_s=0.1, map_s=2, aggregate_s=0.2, rank_s_median=1, rank_s_max=1.5, launch_skew_s=0.5
        ),
        "throughput": Throughput(samples_per_s_map=50, samples_per_s_wall=30, bits_per_s_map=1, bits_per_s_wall=1),
        "cost": Cost(total_usd=0.0017, items_usd={"lambda_compute": 0.0017}, basis="estimate", prices_dated="2026"),
        "science": None,
        "attempts": len(records),
        "reused_ranks": 0,
        "environment": {"skyfan": "0", "python": "3", "cpus": 2, "engines": ["torch 2"], "hosts": 1},
        "created_at": ZERO.isoformat(),
    }
    return Summary.model_validate(fields | change)


def make_predictions(z_pred: np.ndarray, z_spec: np.ndarray | None) -> pa.Table:
    missing = np.where(np.isfinite(z_pred), None, "not finite")
    rows = Rows(np.arange(len(z_pred)), z_pred.astype(np.float32)[:, None], missing, z_spec)
    return rows.to_table(ResultColumns((), z_column=0))
