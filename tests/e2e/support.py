"""Runs jobs in tests and reads what they left."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skyfan
from skyfan.backends.service_backend import ServiceBackend
from skyfan.backends.services import Services
from skyfan.events import Event, Listener
from skyfan.job import Job
from skyfan.records import Summary


def make_job(dataset: Path | str, model: Path | str, output: Path | str, **changes: object) -> Job:
    """A job of nine partitions of at most 12 samples, unless the changes say otherwise."""
    fields = {
        "dataset": str(dataset),
        "model": str(model),
        "output": str(output),
        "partition_size_bytes": 12 * 20504 + 2048,
    }
    return Job.model_validate(fields | changes)


class Given(ServiceBackend):
    """A backend of services that the test made."""

    name = "given"

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services

    def services(self, job: Job) -> Services:
        return self._services


def run(job: Job, on: str | Services = "process", events: list[Event] | Listener | None = None) -> Summary:
    """The job's summary; `events` collects what happened, or is told."""
    listener = events.append if isinstance(events, list) else events
    return skyfan.run(job, on=Given(on) if isinstance(on, Services) else on, progress=listener or False).summary


def predictions(output: Path) -> pa.Table:
    """All rows, in rank order."""
    files = sorted((output / "predictions").glob("rank-*.parquet"), key=lambda path: int(path.stem.split("-")[1]))
    return pa.concat_tables(pq.read_table(path).replace_schema_metadata(None) for path in files)


def assert_equal_z(table: pa.Table, expected: np.ndarray) -> None:
    """Every sample exactly once, in dataset order, equal to `expected` within 2e-5·max(1, |z|)."""
    assert table["sample_index"].to_pylist() == list(range(len(expected)))
    found = table["z_pred"].to_numpy()
    assert (np.abs(found - expected) <= 2e-5 * np.maximum(1, np.abs(expected))).all()
