"""`python -m tests.faults.soak [--minutes N] [--seed N]`: runs one after the other in one process, faults at random.

A line a run: memory, descriptors, threads and Python objects of this process when the run has ended. At the end the
medians of the second quarter of the runs beside those of the last, and 1 where any of them but the threads has grown.

Memory is what this process holds, and not what glibc keeps for later: a thread frees into one of up to 8 arenas a
processor, and every run has new threads, so that resident memory climbs run by run while what is allocated stays the
same. Here all threads share one arena, and what is free in it is given back before it is measured.
"""

import argparse
import ctypes
import gc
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

import skyfan
from skyfan.errors import SkyfanError
from tests.conftest import make_sample, make_small_model
from tests.faults.child import Trigger
from tests.faults.faults import DUPLICATE, fault_in_process
from tests.faults.oracle import look, wrong_after_first

FAULTS = ("kill-partitioner", "kill-aggregator", "kill-executor", "kill-executors", "stop-executor", "duplicate")
MOMENTS = ("planning", "inferring", "committed", "aggregating")
SAMPLES, RANKS = 24, 6
# One more descriptor or some objects more a run would show; those that come and go do not.
GROWN_MB, GROWN_DESCRIPTORS, GROWN_OBJECTS = 5.0, 3.0, 100.0
FEWEST = 16
_M_ARENA_MAX = -8  # of glibc's malloc.h
_LIBC = ctypes.CDLL(None)


class Held(NamedTuple):
    """What this process holds."""

    megabytes: float
    descriptors: float
    threads: float
    objects: float

    def __str__(self) -> str:
        return "{:.1f} MB, {:.0f} descriptors, {:.0f} threads, {:.0f} objects".format(*self)


def one_run(folder: Path, number: int, fault: str | None, rng: random.Random, expected: dict[int, float]) -> list[str]:
    """What is wrong after one run with this fault, or with none; the first one without gives the expected values."""
    fields = {
        "dataset": str(folder / "data.pt"),
        "model": str(folder / "model.pt"),
        "output": str(folder / f"run-{number}"),
    }
    size = {"world_size": RANKS, "partition_size": 4 * 20504 + 2048, "batch_size": 2}
    job = skyfan.Job.model_validate(fields | size)
    on = "process" if fault in ("duplicate", None) else "local"
    listener = Trigger(rng.choice(MOMENTS), fault_in_process(fault, job, rng), rng) if fault else False
    code = 0
    try:
        state = skyfan.run(job, on=on, progress=listener).summary.state
        code = 0 if state == "complete" else 3
    except SkyfanError as error:
        code = error.exit_code
    for thread in threading.enumerate():
        if thread.name == DUPLICATE:
            thread.join(60)
    left = look(job.output)
    if not expected:
        expected |= left.values
    wrong = wrong_after_first(left, code, expected)
    return [f"run {number}, {fault}: {sentence}" for sentence in wrong]


def held() -> Held:
    """By this process, when all that can be given back is."""
    gc.collect()
    _LIBC.malloc_trim(0)
    objects = sum(type(one) is not Held for one in gc.get_objects())  # this soak's own rows are one a run
    me = psutil.Process()
    return Held(me.memory_info().rss / 2**20, me.num_fds(), me.num_threads(), objects)


def medians(rows: list[Held]) -> Held:
    """Of each figure."""
    return Held(*(statistics.median(column) for column in zip(*rows, strict=True)))


def grown(before: Held, after: Held) -> bool:
    """Whether more is held than the runs' own coming and going explains."""
    return (
        after.megabytes > before.megabytes + GROWN_MB
        or after.descriptors > before.descriptors + GROWN_DESCRIPTORS
        or after.objects > before.objects + GROWN_OBJECTS
    )


def main() -> int:
    """1 where a run is wrong, or what is held grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rng, rows, wrong = random.Random(asked.seed), [], []
    _LIBC.mallopt(_M_ARENA_MAX, 1)
    os.environ["SKYFAN_THREADS"] = "1"
    expected: dict[int, float] = {}
    end_s = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sample(folder / "data.pt", SAMPLES)
        make_small_model(folder / "model.pt")
        wrong += one_run(folder, 0, None, rng, expected)
        while time.monotonic() < end_s:
            wrong += one_run(folder, len(rows) + 1, rng.choice((*FAULTS, None)), rng, expected)
            rows.append(held())
            print(f"run {len(rows)} {rows[-1]}", flush=True)
    quarter = max(1, len(rows) // 4)
    before, after = medians(rows[quarter : 2 * quarter] or rows), medians(rows[-quarter:])
    print(f"second quarter {before}")
    print(f"last quarter   {after}")
    print(f"{len(rows)} runs, {len(wrong)} wrong", *wrong, sep="\n")
    if len(rows) < FEWEST:
        print(f"fewer than {FEWEST} runs tell nothing of growth; give more --minutes")
        return 1
    return int(bool(wrong) or grown(before, after))


if __name__ == "__main__":
    sys.exit(main())
