"""Runs the variants interleaved, several rounds, and writes the table of ratios (JSON, Markdown, a figure).

`python -m benchmarks.bench quick` (the core ratio) or `full`; results go to benchmarks/results/.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.part import Found, Options, inputs, last_line, options_of, parser, save, with_machine
from benchmarks.peers import PEERS, PYTHON
from benchmarks.tables import markdown

REFERENCE = "reference:lambda_script"
QUICK = {REFERENCE: 2, "skyfan:auto/float32": 2}
# How often each runs: what the targets compare five times, what stands beside them three times or twice, so that
# all of it takes less than half an hour.
FULL = {
    REFERENCE: 5,
    "skyfan:openvino/float32": 5,
    "reference:local_script": 5,
    "reference:plain_loop": 3,
    "skyfan:torch/float32": 3,
    "skyfan:openvino/bf16": 3,
    "skyfan:openvino/int8": 3,
    **{f"peer:{name}": 3 for name in PEERS},
    "compute:torch/float32/1": 2,
    "compute:openvino/float32/1": 3,
    "compute:openvino/bf16/1": 3,
    "compute:openvino/int8/1": 3,
    "compute:openvino/float32/2": 3,
}


def run_variant(name: str, folder: Path) -> Found:
    """What the variant printed last; a peer's job runs by the peers' own interpreter."""
    kind, _, peer = name.partition(":")
    if kind == "peer":
        return last_line([str(PYTHON), "-m", "benchmarks.peers", peer, str(folder)])
    return last_line([sys.executable, "-m", "benchmarks.variant", name, str(folder)])


def missing_peers(variants: dict[str, int]) -> list[str]:
    """Those that the peers' interpreter cannot import, or all where there is none."""
    modules = {"ray": "ray.data", "lithops": "lithops", "dask": "distributed"}
    wanted = [name.partition(":")[2] for name in variants if name.startswith("peer:")]
    if not PYTHON.exists():
        return wanted
    tries = {name: [str(PYTHON), "-c", f"import {modules[name]}"] for name in wanted}
    return [name for name, command in tries.items() if subprocess.run(command, capture_output=True).returncode]


def summarised(runs: list[Found]) -> Found:
    """Rates and memory of one variant, medians over its runs; everything else from the last run."""
    last = runs[-1]
    rounds = [run["samples"] / run["wall_s"] for run in runs]
    rates: Found = {"samples_per_s": statistics.median(rounds), "rounds": [round(rate, 1) for rate in rounds]}
    if "cpu_s" in last:
        rates["samples_per_cpu_s"] = statistics.median(run["samples"] / run["cpu_s"] for run in runs)
        rates["peak_rss_mb"] = statistics.median(run["peak_rss_bytes"] for run in runs) / 2**20
    if "start_s" in last:
        rates["samples_per_s_with_start"] = statistics.median(
            run["samples"] / (run["wall_s"] + run["start_s"]) for run in runs
        )
    if last.get("loop_wall_s"):
        rates["samples_per_s_of_loop"] = statistics.median(run["samples"] / run["loop_wall_s"] for run in runs)
    if "gemm" in last:
        # Paired in each run, so that what else the machine does falls on both sides.
        for kind in ("wall", "cpu"):
            rates[f"of_gemm_{kind}"] = statistics.median(
                run["samples"] / run[f"{kind}_s"] * run["flops"] / run["gemm"][kind] for run in runs
            )
        rates["gemm_gflops_per_cpu_s"] = statistics.median(run["gemm"]["cpu"] for run in runs) / 1e9
    kept = ("max_deviation", "p999_deviation", "record", "baseline_rss_bytes", "reported_samples_per_s", "flops")
    return rates | {key: last[key] for key in (*kept, "version") if key in last}


def measure(variants: dict[str, int], options: Options) -> Found:
    """All variants in turn, round by round; each takes part in as many rounds as it is given."""
    missing = missing_peers(variants)
    present = {name: options.at_most(rounds) for name, rounds in variants.items()}
    present = {name: rounds for name, rounds in present.items() if name.partition(":")[2] not in missing}
    runs: dict[str, list[Found]] = {name: [] for name in present}
    with inputs(options.samples) as folder:
        for number in range(1, max(present.values()) + 1):
            for name in (name for name, rounds in present.items() if rounds >= number):
                runs[name].append(run_variant(name, folder))
                rate = runs[name][-1]["samples"] / runs[name][-1]["wall_s"]
                print(f"round {number}/{present[name]} {name}: {rate:.0f} samples/s", flush=True)
    return {
        "samples": options.samples,
        "missing_peers": missing,
        "variants": {name: summarised(found) for name, found in runs.items()},
    }


def main() -> None:
    """Writes `<kind>.json`, `.md` and `.svg`; the last line is the ratio to the reference's Lambda script."""
    asked = parser(__doc__)
    asked.add_argument("kind", choices=("quick", "full"))
    arguments = asked.parse_args()
    options = options_of(arguments)
    variants = QUICK if arguments.kind == "quick" else FULL
    found = with_machine(lambda: measure(variants, options))
    save(options, arguments.kind, found, markdown(found, REFERENCE))
    if arguments.kind == "full":
        from benchmarks.figures import rates_figure, save_svg

        save_svg(rates_figure(found, REFERENCE), options.results / "full.svg")
    print(f"ratio to reference lambda script: {core_ratio(found):.2f}")


def core_ratio(found: Found) -> float:
    """Samples a second of wall time, float32 by the engine that `auto` takes, to the reference's Lambda script."""
    variants = found["variants"]
    ours = variants.get("skyfan:auto/float32") or variants["skyfan:openvino/float32"]
    return float(ours["samples_per_s"] / variants[REFERENCE]["samples_per_s"])


if __name__ == "__main__":
    main()
