"""Dask: tasks on a local cluster of processes with one thread each."""

from collections.abc import Callable
from functools import partial

from distributed import Client, LocalCluster

from benchmarks.peers import WORKERS
from benchmarks.peers.work import predict_and_write, spans

TASKS = 8


def start() -> Callable[[], None]:
    """Starts the workers; the answer stops them."""
    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)

    def stop() -> None:
        client.close()
        cluster.close()

    return stop


def run(folder: str, output: str, samples: int) -> None:
    """The job, on the client that `start` made the current one."""
    client = Client.current()
    starts, stops = zip(*spans(samples, TASKS), strict=True)
    done = client.gather(client.map(partial(predict_and_write, folder, output), starts, stops, pure=False))
    assert sum(done) == samples
