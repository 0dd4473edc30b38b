"""How planning, time, memory and start-up grow: sparse files of zeros, so that size costs no disk.

`python -m benchmarks.growth` writes benchmarks/results/growth.json and .md.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.bench import run_variant
from benchmarks.measure import peak_rss_bytes
from benchmarks.part import Found, Options, bytecode, heading, inputs, last_line, options_of, parser, save, with_machine
from skyfan.formats.torch import TensorFileWriter

WHOLE_SKY_SAMPLES = 659_817
PARTITION_SIZES_MB = (10, 25, 50, 75, 100)
# × a quarter of 100 MB: four that lie on a line, then 1 GB for the memory.
MULTIPLES = (1, 2, 4, 8, 40)
SAMPLE_BYTES = 20_504
COLD_START = """
import json, sys, time
laps = {}
def lap(name, since=[time.time()]):
    laps[name] = time.time() - since[0]
    since[0] = time.time()
import numpy as np
lap("import numpy")
import services.executor.lambda_handler
lap("import the executor's Lambda handler")
from skyfan.engines.openvino_import import openvino
lap("import openvino")
from skyfan.engines import create_engine
from skyfan.models import load_model
from skyfan.job import RunOptions

model = load_model(sys.argv[1], planned_digest=sys.argv[2])
lap("load the model")
engine = create_engine(model, RunOptions(), threads=2)
lap("make the engine")
engine.predict([np.zeros((64, 5, 32, 32), np.float32), np.zeros((64, 5), np.float32)])
lap("predict the first 64")
print(json.dumps({"engine": engine.info.name, "since_start_s": time.time() - float(sys.argv[3]),
                  "cpu_s": time.process_time(), "laps_s": laps}))
"""


class SparseFile(TensorFileWriter):
    """A tensor file whose values are a hole in the file: zeros that take no space."""

    def leave_out(self, rows: int) -> None:
        """Counts rows as written; the checksums, which no reader of ranges looks at, stay 0."""
        self._written += rows


def sparse_dataset(path: Path, samples: int) -> None:
    """A three-tensor dataset of zeros, in the reference's layout."""
    layout = [("float32", (5, 32, 32)), ("float32", (5,)), ("float32", ())]
    with SparseFile(path, samples, layout) as writer:
        writer.leave_out(samples)


def planning(folder: Path) -> Found:
    """Seconds to plan 12.6 GB at each partition size, in a process of its own for its memory."""
    path = folder / "sky.pt"
    sparse_dataset(path, WHOLE_SKY_SAMPLES)
    found = last_line([sys.executable, "-m", "benchmarks.growth", "--plan", str(path)])
    return found | {"size_bytes": path.stat().st_size}


def plan_all_sizes(path: str) -> None:
    """Prints what `planning` returns."""
    from skyfan.job import Job
    from skyfan.stages.plan import draft

    seconds, partitions = {}, {}
    for size in PARTITION_SIZES_MB:
        start = time.perf_counter()
        plan = draft(Job(dataset=path, partition_size=size * 2**20), "0" * 64)
        text = plan.model_dump_json()
        seconds[size], partitions[size] = time.perf_counter() - start, plan.partitions
        assert text
    print(json.dumps({"seconds": seconds, "partitions": partitions, "peak_rss_bytes": peak_rss_bytes()}))


def growth(model: Path, folder: Path, quarter: int) -> list[Found]:
    """Wall and CPU time and memory of one rank over 25 MB × each multiple, threads and model as they are."""
    rows = []
    for multiple in MULTIPLES:
        variant_folder = folder / f"x{multiple}"
        variant_folder.mkdir()
        sparse_dataset(variant_folder / "data.pt", quarter * multiple)
        (variant_folder / "model.safetensors").symlink_to(model)
        run = run_variant("skyfan:auto/float32:unchecked", variant_folder)
        kept = ("samples", "wall_s", "cpu_s", "peak_rss_bytes", "baseline_rss_bytes", "record")
        rows.append({"multiple": multiple} | {key: run[key] for key in kept})
        print(f"{multiple} × 25 MB: {run['wall_s']:.1f} s, {run['peak_rss_bytes'] / 2**20:.0f} MB", flush=True)
    return rows


def memory_ratio(rows: list[Found]) -> float:
    """Peak RSS above the imports of 1 GB to that of 100 MB."""
    above = {row["multiple"]: row["peak_rss_bytes"] - row["baseline_rss_bytes"] for row in rows}
    return float(above[40] / above[4])


def line(rows: list[Found]) -> Found:
    """Time = start + slope × size through all but the largest, and what it says of the largest."""
    size_mb = [row["samples"] * SAMPLE_BYTES / 2**20 for row in rows]
    slope, start = statistics.linear_regression(size_mb[:-1], [row["wall_s"] for row in rows[:-1]])
    return {"s_per_mb": slope, "start_s": start, "largest_s": start + slope * size_mb[-1]}


def cold_start(model: Path) -> Found:
    """From the start of the process to the first predictions of a planned run, with bytecode, as the images have it.

    The median of three, after one that writes the bytecode and warms the page cache.
    """
    code = [sys.executable, "-c", COLD_START, str(model), hashlib.sha256(model.read_bytes()).hexdigest()]
    with bytecode() as environment:
        runs = [last_line([*code, str(time.time())], environment) for _ in range(4)]
    return sorted(runs[1:], key=lambda run: run["since_start_s"])[1]


def markdown(found: Found) -> str:
    """The same as tables."""
    plan, cold = found["planning"], found["cold_start"]
    lines = [
        *heading(found, "How it grows", "Files of zeros."),
        f"Planning a {plan['size_bytes'] / 1e9:.1f} GB file, peak RSS {plan['peak_rss_bytes'] / 2**20:.0f} MB:",
        "",
        "| partition MB | partitions | seconds |",
        "|---|---|---|",
        *(f"| {size} | {plan['partitions'][size]} | {seconds:.3f} |" for size, seconds in plan["seconds"].items()),
        "",
        "One rank, all cores:",
        "",
        "| × 25 MB | samples | wall s | CPU s | peak RSS MB | above imports MB |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["growth"]:
        above = row["peak_rss_bytes"] - row["baseline_rss_bytes"]
        lines.append(
            f"| {row['multiple']} | {row['samples']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} "
            f"| {row['peak_rss_bytes'] / 2**20:.0f} | {above / 2**20:.0f} |"
        )
    fit = found["line"]
    lines += [
        "",
        f"Straight line through all but the last: {fit['start_s']:.2f} s + {fit['s_per_mb']:.3f} s/MB, which gives "
        f"{fit['largest_s']:.1f} s for the last.",
    ]
    lines += ["", f"Peak RSS above imports, 1 GB to 100 MB: {found['memory_ratio']:.2f}."]
    lines += [
        "",
        f"Cold start to first predictions ({cold['engine']}): {cold['since_start_s']:.2f} s, "
        f"{cold['cpu_s']:.2f} CPU seconds of all threads",
        "",
    ]
    lines += ["| step | seconds |", "|---|---|", *(f"| {name} | {s:.2f} |" for name, s in cold["laps_s"].items())]
    return "\n".join(lines) + "\n"


def measure(options: Options) -> Found:
    """Planning, cold start, growth."""
    with inputs(64) as folder:
        model = folder / "model.safetensors"
        found = {"planning": planning(folder), "cold_start": cold_start(model)}
        rows = growth(model, folder, max(1, options.samples // 4))
    return found | {
        "sample_bytes": SAMPLE_BYTES,
        "growth": rows,
        "memory_ratio": memory_ratio(rows),
        "line": line(rows),
    }


def main() -> None:
    """Measures planning, growth and cold start; draws growth."""
    asked = parser(__doc__)
    asked.add_argument("--plan", help=argparse.SUPPRESS)
    arguments = asked.parse_args()
    if arguments.plan:
        plan_all_sizes(arguments.plan)
        return
    from benchmarks.figures import growth_figure, save_svg

    options = options_of(arguments)
    found = with_machine(lambda: measure(options))
    save(options, "growth", found, markdown(found))
    save_svg(growth_figure(found), options.results / "growth.svg")


if __name__ == "__main__":
    main()
