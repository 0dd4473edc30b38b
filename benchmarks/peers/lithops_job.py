"""Lithops on localhost: one call a partition, two worker processes."""

import sys
import tempfile
from collections.abc import Callable

import lithops

from benchmarks.peers import WORKERS
from benchmarks.peers.work import predict_and_write, spans

# A call costs Lithops about a second of its own; partitions of 25 MB, as the reference system's.
CALLS = 4
_EXECUTORS: list[lithops.FunctionExecutor] = []


def start() -> Callable[[], None]:
    """Makes the executor; its worker processes start with the first calls."""
    storage = tempfile.TemporaryDirectory(prefix="skyfan-bench-lithops-")
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost", "telemetry": False, "monitoring_interval": 0.2},
        "localhost": {"worker_processes": WORKERS, "runtime": sys.executable},
        "localhost_storage": {"storage_root": storage.name},
    }
    _EXECUTORS.append(lithops.FunctionExecutor(config=config, log_level="ERROR"))

    def stop() -> None:
        _EXECUTORS.pop().__exit__(None, None, None)
        storage.cleanup()

    return stop


def run(folder: str, output: str, samples: int) -> None:
    """The job."""
    calls = [(folder, output, first, last) for first, last in spans(samples, CALLS)]
    executor = _EXECUTORS[-1]
    executor.map(predict_and_write, calls)
    assert sum(executor.get_result(show_progressbar=False)) == samples
