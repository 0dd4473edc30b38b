"""`python -m benchmarks.peers PEER FOLDER`: the job once, by one peer; prints what it measured as one JSON line.

The clock starts when the peer's runtime is up, with its start told beside it: a cluster may be there already.
What comes with the job counts: processes for its workers, which import torch and load the model. The variants of one
process have imported by then, so that a peer pays about two seconds that they do not; benchmarks.scaling has Skyfan's
own fan-out.
"""

import importlib
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {"ray": "ray", "lithops": "lithops", "dask": "distributed"}


def measure(peer: str, folder: Path) -> dict[str, Any]:
    """The same keys as variants have, where they can be told of several processes."""
    # Workers inherit these: one thread each, and this folder's modules.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    expected = np.load(folder / "expected.npy")
    job = importlib.import_module(f"benchmarks.peers.{peer}_job")
    from benchmarks.peers.work import written

    began = time.perf_counter()
    stop = job.start()
    start_s = time.perf_counter() - began
    try:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            began = time.perf_counter()
            job.run(str(folder), output, len(expected))
            wall_s = time.perf_counter() - began
            z = written(output)
    finally:
        stop()
    return {
        "samples": len(z),
        "wall_s": wall_s,
        "start_s": start_s,
        "max_deviation": float((np.abs(z - expected) / np.maximum(1, np.abs(expected))).max()),
        "version": version(PACKAGES[peer]),
    }


def main() -> None:
    """One peer, one run."""
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]).resolve())))


if __name__ == "__main__":
    main()
