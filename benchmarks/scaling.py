"""One and two executors of one thread each over gRPC (`--on local`), beside the same ranks in one process.

`python -m benchmarks.scaling` writes scaling.json and .md. Every backend is warmed up by a run of its own first, so
that the map's time holds no loading of models; what a cold start costs is told beside it. In each round, in turn:

- `process`: the ranks one after the other in this process, one thread;
- `local 1`, `local 2`: the same plan fanned out to one and to two executors;
- `hardware`: two processes that only compute, at once, against one of them alone: what the processors themselves
  give to a second worker. Without it, shared caches and clocks would be taken for Skyfan's doing.

Map time is from the first rank's start to the last rank's end. Overhead is what the fan-out costs in processor
slots: map time × executors over the sum of the ranks' times in one process, less one.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.growth import sparse_dataset
from benchmarks.part import ROOT, Found, Options, heading, inputs, options_of, parser, save, with_machine

RANKS = 4
ROUNDS = 3
ALONE = """
import sys, time
import numpy as np
from skyfan.engines import create_engine
from skyfan.models import load_model
from skyfan.job import RunOptions

engine = create_engine(load_model(sys.argv[1]), RunOptions(), threads=1)
batch = [np.zeros((512, 5, 32, 32), np.float32), np.zeros((512, 5), np.float32)]
engine.predict(batch)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(sys.argv[2])):
        engine.predict(batch)
    print(time.perf_counter() - start, flush=True)
"""


def job(dataset: Path, model: Path, output: str) -> Any:
    """The dataset in `RANKS` ranks."""
    from skyfan.job import Job

    size = -(-dataset.stat().st_size // RANKS)
    return Job(dataset=str(dataset), model=str(model), output=output, partition_size=size, world_size=RANKS)


async def timed_runs(backend: str, executors: int, dataset: Path, model: Path) -> Found:
    """A cold run, then a warm one, on the same target; the warm one's map time is what counts."""
    from skyfan.backends.driver import run_job
    from skyfan.backends.local import LocalServices
    from skyfan.backends.process import ProcessServices

    with tempfile.TemporaryDirectory(prefix="skyfan-bench-") as output:
        began = time.perf_counter()
        services = ProcessServices() if backend == "process" else LocalServices(workers=executors)
        async with services as target:
            await run_job(job(dataset, model, f"{output}/cold"), target, lambda _event: None, time.monotonic())
            cold_s = time.perf_counter() - began
            began = time.perf_counter()
            summary = await run_job(
                job(dataset, model, f"{output}/warm"), target, lambda _event: None, time.monotonic()
            )
            warm_s = time.perf_counter() - began
        records = [_record(output, rank) for rank in range(RANKS)]
    return {
        "samples": summary.samples,
        "map_s": summary.timing.map_s,
        "ranks_s": sum(record["wall_s"] for record in records),
        "cold_ranks": sum(record["cold_start"] for record in records),
        "threads": max(record["threads"] for record in records),
        "warm_s": warm_s,
        "cold_s": cold_s,
    }


def _record(output: str, rank: int) -> Found:
    found: Found = json.loads(Path(output, "warm", f"{rank}.json").read_text())
    return found


def measured(name: str, executors: int, dataset: Path, model: Path) -> Found:
    """One backend in one round. A local target divides its threads among its executors."""
    os.environ["SKYFAN_THREADS"] = str(executors)
    return asyncio.run(timed_runs(name, executors, dataset, model))


def hardware(model: Path, batches: int) -> float:
    """How much more two computing processes do than one."""
    command = [sys.executable, "-c", ALONE, str(model), str(batches)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    try:
        for worker in workers:
            _said(worker)
        alone_s = _compute(workers[:1])
        return 2 * alone_s / _compute(workers)
    finally:
        for worker in workers:
            assert worker.stdin
            worker.stdin.close()
            worker.wait()


def _compute(workers: list["subprocess.Popen[str]"]) -> float:
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return max(float(_said(worker)) for worker in workers)


def _said(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout
    return worker.stdout.readline()


def one_round(dataset: Path, model: Path, batches: int) -> Found:
    """All backends once."""
    found: Found = {
        "process": measured("process", 1, dataset, model),
        "local 1": measured("local", 1, dataset, model),
        "local 2": measured("local", 2, dataset, model),
        "hardware": hardware(model, batches),
    }
    sequential_s = found["process"]["ranks_s"]
    found["speed_up"] = found["local 1"]["map_s"] / found["local 2"]["map_s"]
    for executors in (1, 2):
        found[f"overhead {executors}"] = found[f"local {executors}"]["map_s"] * executors / sequential_s - 1
    print(f"scaling: {found['speed_up']:.2f} ×, hardware {found['hardware']:.2f} ×", flush=True)
    return found


def measure(options: Options) -> Found:
    """Rounds, and their medians."""
    from skyfan import logs

    logs.configure("benchmark", level="warning")
    with inputs(64) as folder:
        dataset, model = folder / "sky.pt", folder / "model.safetensors"
        sparse_dataset(dataset, options.samples)
        batches = max(1, options.samples // 4 // 512)
        rounds = [one_round(dataset, model, batches) for _ in range(options.at_most(ROUNDS))]
    middle = ("speed_up", "hardware", "overhead 1", "overhead 2")
    return {
        "samples": options.samples,
        "ranks": RANKS,
        "median": {name: statistics.median(one[name] for one in rounds) for name in middle},
        "rounds": rounds,
    }


def markdown(found: Found) -> str:
    """A row for each backend and round, and the medians."""
    about = f"{found['samples']} samples in {found['ranks']} ranks, one thread an executor."
    lines = [
        *heading(found, "Scaling", about),
        "| round | backend | map s | sum of ranks s | samples/s (map) | cold ranks | warm s | cold and start s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(found["rounds"], 1):
        for name in ("process", "local 1", "local 2"):
            row = one[name]
            rate = row["samples"] / row["map_s"]
            lines.append(
                f"| {number} | {name} | {row['map_s']:.2f} | {row['ranks_s']:.2f} | {rate:.0f} "
                f"| {row['cold_ranks']} | {row['warm_s']:.2f} | {row['cold_s']:.2f} |"
            )
    middle = found["median"]
    lines += [
        "",
        f"Medians: 1 → 2 executors {middle['speed_up']:.2f} × (two bare computing processes: "
        f"{middle['hardware']:.2f} ×); overhead over the same ranks in one process "
        f"{middle['overhead 1']:+.1%} with one executor, {middle['overhead 2']:+.1%} with two.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures scaling."""
    options = options_of(parser(__doc__).parse_args())
    found = with_machine(lambda: measure(options))
    save(options, "scaling", found, markdown(found))


if __name__ == "__main__":
    main()
