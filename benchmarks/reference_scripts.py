"""The reference system's two scripts, written anew from their structure (facts only, no code of theirs).

Both load a whole partition file and a pickled whole module, walk it with a DataLoader in batches of 512 and
throw predictions away. The Lambda script profiles CPU and memory around the loop and collects garbage after
every batch; the local script profiles the loop alone. `plain_loop` is what a careful user would write.
"""

import gc
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.data import DataLoader

BATCH_SIZE = 512


@dataclass(frozen=True)
class Outcome:
    """Wall seconds from opening the files to the record, and the CPU seconds of all threads meanwhile.

    `loop_wall_s`: up to the end of the loop, without summing up the profile, from which the record is made.
    """

    samples: int
    wall_s: float
    cpu_s: float
    loop_wall_s: float | None = None
    reported_samples_per_s: float | None = None


def _load(data: Path, model: Path) -> tuple[torch.nn.Module, DataLoader]:
    # weights_only=False is the reference's way; these files were written by this benchmark a moment ago.
    module = torch.load(model, map_location="cpu", weights_only=False).eval()
    dataset = torch.load(data, weights_only=False)
    return module, DataLoader(dataset, batch_size=BATCH_SIZE)


def _profiled_s(profiler: profile) -> float:
    """CPU seconds as the reference counts them: the sum over operators of time that includes nested ones."""
    return sum(event.cpu_time_total for event in profiler.key_averages()) / 1e6


def _profiled_loop(data: Path, model: Path, *, collect: bool) -> Outcome:
    start, cpu = time.perf_counter(), time.process_time()
    module, loader = _load(data, model)
    samples = 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, torch.no_grad():
        for image, magnitude, _ in loader:
            with record_function("model_inference"):
                module([image, magnitude])
            samples += len(image)
            if collect:
                gc.collect()
    loop_wall_s = time.perf_counter() - start
    # Its record is the profile's sum: without it the script has nothing to write.
    reported = samples / _profiled_s(profiler)
    return Outcome(samples, time.perf_counter() - start, time.process_time() - cpu, loop_wall_s, reported)


def lambda_script(data: Path, model: Path) -> Outcome:
    """Profiler with memory over the loop, garbage collected after every batch."""
    return _profiled_loop(data, model, collect=True)


def local_script(data: Path, model: Path) -> Outcome:
    """The same without collecting garbage."""
    return _profiled_loop(data, model, collect=False)


def plain_loop(data: Path, model: Path) -> Outcome:
    """The DataLoader loop without profiler, in inference mode, predictions kept."""
    start, cpu = time.perf_counter(), time.process_time()
    module, loader = _load(data, model)
    with torch.inference_mode():
        outputs = torch.cat([module([image, magnitude]) for image, magnitude, _ in loader])
    return Outcome(len(outputs), time.perf_counter() - start, time.process_time() - cpu)
