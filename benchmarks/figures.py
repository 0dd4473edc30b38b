"""The figures of `make bench`, in the look of Skyfan's reports: labelled, with units, colour-blind safe."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skyfan.report.figures import BLUE, GREEN, GREY, ORANGE, style, to_svg

LARGEST_ON_LINE = 8
COLOURS = {"reference": ORANGE, "peer": GREY, "skyfan": BLUE}
NAMES = {
    "reference:lambda_script": "reference, Lambda script",
    "reference:local_script": "reference, local script",
    "reference:plain_loop": "torch, DataLoader loop",
    "peer:ray": "Ray Data",
    "peer:lithops": "Lithops, localhost",
    "peer:dask": "Dask",
    "skyfan:torch/float32": "Skyfan, torch float32",
    "skyfan:openvino/float32": "Skyfan, float32",
    "skyfan:openvino/bf16": "Skyfan, bf16",
    "skyfan:openvino/int8": "Skyfan, int8",
}


def save_svg(figure: Figure, path: Path) -> None:
    """The same bytes for the same numbers."""
    with style():
        path.write_text(to_svg(figure) + "\n")


def rates_figure(found: dict[str, Any], reference: str) -> Figure:
    """A bar a variant: median samples/s, whiskers from the slowest to the fastest round."""
    shown = [name for name in NAMES if name in found["variants"]]
    base = found["variants"][reference]["samples_per_s"]
    with style():
        figure = Figure(figsize=(7, 0.6 + 0.38 * len(shown)), layout="constrained")
        axes = figure.subplots()
        for position, name in enumerate(shown):
            one = found["variants"][name]
            rate, rounds = one["samples_per_s"], one["rounds"]
            whiskers = [[max(0.0, rate - min(rounds))], [max(0.0, max(rounds) - rate)]]
            axes.barh(position, rate, color=COLOURS[name.partition(":")[0]], xerr=whiskers, capsize=3, height=0.7)
            axes.text(max(rate, *rounds), position, f"  {rate:.0f} ({rate / base:.1f} ×)", va="center")
        axes.set_yticks(range(len(shown)), [NAMES[name] for name in shown])
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlabel(
            f"samples/s, files to predictions ({found['samples']:,} samples, {found['machine']['cores']} cores)"
        )
        return figure


def growth_figure(found: dict[str, Any]) -> Figure:
    """Time up to 8 × 25 MB with its straight line, and memory up to 1 GB, by powers of ten."""
    rows = found["growth"]
    size_mb = np.array([row["samples"] for row in rows]) * found["sample_bytes"] / 2**20
    wall_s = np.array([row["wall_s"] for row in rows])
    memory_mb = np.array([row["peak_rss_bytes"] - row["baseline_rss_bytes"] for row in rows]) / 2**20
    small = [position for position, row in enumerate(rows) if row["multiple"] <= LARGEST_ON_LINE]
    slope, start = found["line"]["s_per_mb"], found["line"]["start_s"]
    ends = np.array([0, size_mb[small].max()])
    with style():
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(ends, start + slope * ends, color=GREY, linestyle="--", label=f"{start:.1f} s + {slope:.3f} s/MB")
        left.plot(size_mb[small], wall_s[small], "o", color=BLUE, label="measured, one rank")
        left.set(xlabel="partition (MB)", ylabel="wall time (s)", xlim=(0, None), ylim=(0, None))
        left.legend(frameon=False)
        right.plot(size_mb, memory_mb, "s-", color=GREEN, label="peak RSS above imports")
        right.set(xscale="log", xlabel="partition (MB)", ylabel="memory (MB)", ylim=(0, 1.25 * memory_mb.max()))
        right.set_xticks(size_mb, [f"{size:.0f}" for size in size_mb])
        right.minorticks_off()
        right.legend(frameon=False, loc="lower right")
        return figure
