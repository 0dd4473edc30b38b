"""Ray Data: row numbers through `map_batches` on a pool of actors, then `write_parquet`."""

import os
import secrets
from collections.abc import Callable
from typing import Any

import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy

from benchmarks.peers import WORKERS
from benchmarks.peers.work import predict

BLOCK_ROWS = 512


class Predictor:
    """An actor: one process with one thread."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Redshifts of consecutive rows; `range` gives nothing else."""
        rows = batch["id"]
        return {"id": rows, "z_pred": predict(self._folder, int(rows[0]), int(rows[-1]) + 1)}


def start() -> Callable[[], None]:
    """Starts Ray; the answer stops it."""
    # Else Ray makes a token and leaves it in the user's home; and nothing here is reported to anyone.
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=256 * 2**20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.shutdown


def run(folder: str, output: str, samples: int) -> None:
    """The job."""
    rows = ray.data.range(samples, override_num_blocks=-(-samples // BLOCK_ROWS))
    predicted = rows.map_batches(
        Predictor,
        fn_constructor_args=(folder,),
        batch_size=None,
        compute=ActorPoolStrategy(size=WORKERS),
        # Half a processor each, so that the tasks which make row numbers and write files find room beside them.
        num_cpus=0.5,
    )
    predicted.write_parquet(output)
