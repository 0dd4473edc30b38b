"""The targets of speed beside what was reached, from the parts' JSON results: `python -m benchmarks.targets`.

Nobody types numbers: a part that has not been run is "not measured".
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import REFERENCE, core_ratio
from benchmarks.part import options_of, parser

FLOAT32 = "skyfan:openvino/float32"
PARTS = ("full", "growth", "reading", "scaling", "accuracy")

Results = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One target: met where `reached` (of the results of `part`) is at least or at most `bound`."""

    name: str
    part: str
    reached: Callable[[Results], float]
    bound: float
    at_least: bool = True
    form: str = "{:.2f} ×"

    def row(self, results: Results) -> str:
        """A line of the table."""
        wanted = f"{'≥' if self.at_least else '≤'} {self.form.format(self.bound)}"
        try:
            value = self.reached(results[self.part])
        except KeyError:
            return f"| {self.name} | {wanted} | not measured | – |"
        met = value >= self.bound if self.at_least else value <= self.bound
        return f"| {self.name} | {wanted} | {self.form.format(value)} | {'yes' if met else '**no**'} |"


def _rate(full: Results, name: str) -> float:
    return float(full["variants"][name]["samples_per_s"])


def _reduced(full: Results) -> float:
    """The faster reduced precision to float32, the engine alone on one thread."""
    rates = [_rate(full, f"compute:openvino/{precision}/1") for precision in ("int8", "bf16")]
    return max(rates) / _rate(full, "compute:openvino/float32/1")


def _of_gemm(threads: int) -> Callable[[Results], float]:
    return lambda full: float(full["variants"][f"compute:openvino/float32/{threads}"]["of_gemm_wall"])


def _memory_mb(growth: Results) -> float:
    row = next(row for row in growth["growth"] if row["multiple"] == 4)
    return (row["peak_rss_bytes"] - row["baseline_rss_bytes"]) / 2**20


TARGETS = (
    Target("1. end to end, to the reference's Lambda script", "full", core_ratio, 4),
    Target(
        "1. end to end, to its local script",
        "full",
        lambda full: _rate(full, FLOAT32) / _rate(full, "reference:local_script"),
        3,
    ),
    Target(
        "1. our form of the Lambda script (no straw man)",
        "full",
        lambda full: _rate(full, REFERENCE),
        150,
        form="{:.0f} samples/s",
    ),
    Target(
        "1. our form of the local script (no straw man)",
        "full",
        lambda full: _rate(full, "reference:local_script"),
        170,
        form="{:.0f} samples/s",
    ),
    Target(
        "1. predictions equal to float32 torch",
        "full",
        lambda full: full["variants"][FLOAT32]["max_deviation"],
        1e-4,
        at_least=False,
        form="{:.1e}",
    ),
    Target("2. compute alone, of the GEMM rate, 1 thread", "full", _of_gemm(1), 0.6, form="{:.0%}"),
    Target("2. compute alone, of the GEMM rate, 2 threads", "full", _of_gemm(2), 0.6, form="{:.0%}"),
    Target("3. reduced precision to float32, engine alone", "full", _reduced, 1.6),
    Target(
        "3. its deviation on the demo model: samples within 0.002",
        "accuracy",
        lambda found: min(found[precision]["within_0.002"] for precision in ("int8", "bf16")),
        0.999,
        form="{:.1%}",
    ),
    Target(
        "3. its NMAD on the demo model, relative change",
        "accuracy",
        lambda found: max(abs(found[precision]["nmad_relative_change"]) for precision in ("int8", "bf16")),
        0.01,
        at_least=False,
        form="{:.3%}",
    ),
    Target("4. peak RSS above imports, 100 MB", "growth", _memory_mb, 450, at_least=False, form="{:.0f} MB"),
    Target("4. the same, 1 GB to 100 MB", "growth", lambda found: found["memory_ratio"], 1.1, at_least=False),
    Target(
        "5. cold start to first prediction",
        "growth",
        lambda found: found["cold_start"]["since_start_s"],
        1.5,
        at_least=False,
        form="{:.2f} s",
    ),
    Target(
        "6. reading from S3 (moto), of a plain client",
        "reading",
        lambda found: found["stores"]["moto"]["of_plain"],
        0.85,
        form="{:.0%}",
    ),
    Target(
        "6. reading from our range server, of a plain client",
        "reading",
        lambda found: found["stores"]["range server"]["of_plain"],
        0.85,
        form="{:.0%}",
    ),
    Target(
        "6. rank at 80 MB/s: (wall − start) / max(read, compute)",
        "reading",
        lambda found: found["overlap"]["throttled"]["ratio"],
        1.08,
        at_least=False,
        form="{:.3f}",
    ),
    Target(
        "7. planning 12.6 GB, slowest partition size",
        "growth",
        lambda found: max(found["planning"]["seconds"].values()),
        0.5,
        at_least=False,
        form="{:.3f} s",
    ),
    Target(
        "7. its peak RSS",
        "growth",
        lambda found: found["planning"]["peak_rss_bytes"] / 2**20,
        150,
        at_least=False,
        form="{:.0f} MB",
    ),
    Target("8. 1 → 2 executors", "scaling", lambda found: found["median"]["speed_up"], 1.9),
    Target(
        "8. overhead over one process, 1 executor",
        "scaling",
        lambda found: found["median"]["overhead 1"],
        0.05,
        at_least=False,
        form="{:.1%}",
    ),
    Target(
        "8. overhead over one process, 2 executors",
        "scaling",
        lambda found: found["median"]["overhead 2"],
        0.05,
        at_least=False,
        form="{:.1%}",
    ),
)


def read_results(folder: Path) -> Results:
    """The parts that there are."""
    paths = {part: folder / f"{part}.json" for part in PARTS}
    return {part: json.loads(path.read_text()) for part, path in paths.items() if path.exists()}


def markdown(results: Results) -> str:
    """The table, and when and how busy each part was measured."""
    lines = ["# Targets of speed", "", "| target | wanted | reached | met |", "|---|---|---|---|"]
    lines += [target.row(results) for target in TARGETS]
    return "\n".join([*lines, "", *_measured(results)]) + "\n"


def _measured(results: Results) -> Iterator[str]:
    for part, found in results.items():
        if "took_s" in found:
            where = found["machine"]
            load = f"load average {where['load_average']:.1f} before, {where['load_average_after']:.1f} after"
            yield f"- {part}: {found['taken']}, {found['took_s']:.0f} s, {where['cpu']}, {where['cores']} cores, {load}"


def main() -> None:
    """Writes targets.md beside the results."""
    folder = options_of(parser(__doc__).parse_args()).results
    text = markdown(read_results(folder))
    (folder / "targets.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
