"""Runs the variants interleaved, several rounds, and writes the table of ratios (JSON and Markdown).

`python -m benchmarks.bench quick` (the core ratio) or `full`; results go to benchmarks/results/.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import SAMPLES_OF_100_MB, machine
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
REFERENCE = "reference:lambda_script"
QUICK = (REFERENCE, "skyfan:auto/float32")
FULL = (
    REFERENCE,
    "reference:local_script",
    "reference:plain_loop",
    "skyfan:torch/float32",
    "skyfan:openvino/float32",
    "skyfan:openvino/bf16",
    "skyfan:openvino/int8",
    "compute:torch/float32/1",
    "compute:openvino/float32/1",
    "compute:openvino/bf16/1",
    "compute:openvino/int8/1",
    "compute:openvino/float32/2",
)
TIME_LIMIT_S = 900


def run_variant(name: str, folder: Path) -> dict[str, Any]:
    """What the variant printed last."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.variant", name, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates and memory of one variant over its runs; everything else from the last run."""
    last = runs[-1]
    rates = {
        "samples_per_s": statistics.median(run["samples"] / run["wall_s"] for run in runs),
        "samples_per_cpu_s": statistics.median(run["samples"] / run["cpu_s"] for run in runs),
        "peak_rss_mb": statistics.median(run["peak_rss_bytes"] for run in runs) / 2**20,
        "rounds": [round(run["samples"] / run["wall_s"], 1) for run in runs],
    }
    if "gemm" in last:
        # Paired in each run, so that what else the machine does falls on both sides.
        for kind in ("wall", "cpu"):
            rates[f"of_gemm_{kind}"] = statistics.median(
                run["samples"] / run[f"{kind}_s"] * run["flops"] / run["gemm"][kind] for run in runs
            )
        rates["gemm_gflops_per_cpu_s"] = statistics.median(run["gemm"]["cpu"] for run in runs) / 1e9
    kept = ("max_deviation", "p999_deviation", "record", "baseline_rss_bytes", "reported_samples_per_s", "flops")
    return rates | {key: last[key] for key in kept if key in last}


def measure(variants: tuple[str, ...], samples: int, rounds: int) -> dict[str, Any]:
    """All variants in turn, `rounds` times over."""
    before = machine()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory(prefix="skyfan-bench-") as folder:
        make = [sys.executable, "-m", "benchmarks.inputs", folder, "--samples", str(samples)]
        subprocess.run(make, cwd=ROOT, check=True, timeout=TIME_LIMIT_S)
        for number in range(rounds):
            for name in variants:
                runs[name].append(run_variant(name, Path(folder)))
                rate = runs[name][-1]["samples"] / runs[name][-1]["wall_s"]
                print(f"round {number + 1}/{rounds} {name}: {rate:.0f} samples/s", flush=True)
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": before | {"load_average_after": machine()["load_average"]},
        "samples": samples,
        "rounds": rounds,
        "variants": {name: medians(found) for name, found in runs.items()},
    }


def main() -> None:
    """Writes `results/<kind>.json` and `.md`; the last line is the ratio to the reference's Lambda script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("quick", "full"))
    parser.add_argument("--samples", type=int, default=SAMPLES_OF_100_MB)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    variants, rounds = (QUICK, 2) if arguments.kind == "quick" else (FULL, 5)
    found = measure(variants, arguments.samples, arguments.rounds or rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.kind}.json").write_text(json.dumps(found, indent=1) + "\n")
    table = markdown(found, REFERENCE)
    (RESULTS / f"{arguments.kind}.md").write_text(table)
    print(table)
    ours = found["variants"].get("skyfan:auto/float32") or found["variants"]["skyfan:openvino/float32"]
    ratio = ours["samples_per_s"] / found["variants"][REFERENCE]["samples_per_s"]
    print(f"ratio to reference lambda script: {ratio:.2f}")


if __name__ == "__main__":
    main()
