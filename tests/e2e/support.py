"""Runs jobs in tests and reads what they left."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skyfan.backends import Event, Job, create_target, run_job
from skyfan.backends.base import Target
from skyfan.planning import RunOptions
from skyfan.records import Summary


def make_job(dataset: Path | str, model: Path | str, output: Path | str, **changes: object) -> Job:
    """A job of nine partitions of at most 12 samples, unless the changes say otherwise."""
    batch_size = changes.pop("batch_size", 512)
    fields = {
        "dataset": str(dataset),
        "model": str(model),
        "output": str(output),
        "partition_size_bytes": 12 * 20504 + 2048,
    }
    return Job.model_validate(fields | {"options": RunOptions(batch_size=batch_size)} | changes)


def run(job: Job, on: str | Target = "process", events: list[Event] | None = None) -> Summary:
    """The job's summary; `events` collects what happened."""

    async def go() -> Summary:
        target = create_target(on, workers=job.workers, collectives=job.collectives) if isinstance(on, str) else on
        async with target:
            return await run_job(job, target, events.append if events is not None else lambda event: None)

    return asyncio.run(go())


def predictions(output: Path) -> pa.Table:
    """All rows, in rank order."""
    files = sorted((output / "predictions").glob("rank-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))
    return pa.concat_tables(pq.read_table(path).replace_schema_metadata(None) for path in files)


def assert_equal_z(table: pa.Table, expected: np.ndarray) -> None:
    """Every sample exactly once, in dataset order, equal to `expected` within 2e-5·max(1, |z|)."""
    assert table["sample_index"].to_pylist() == list(range(len(expected)))
    found = table["z_pred"].to_numpy()
    assert (np.abs(found - expected) <= 2e-5 * np.maximum(1, np.abs(expected))).all()
