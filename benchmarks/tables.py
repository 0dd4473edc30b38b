"""Variants' results as Markdown."""

from typing import Any

from benchmarks.part import heading


def markdown(found: dict[str, Any], reference: str) -> str:
    """Machine, warnings, and one row a variant with its ratio to the reference."""
    about = f"{found['samples']} samples; medians of the rounds listed, in which the variants took turns."
    lines = [*heading(found, "Files to predictions", about), *_jobs(found["variants"], reference), ""]
    if found["missing_peers"]:
        lines += [f"Left out, because they are not installed: {', '.join(found['missing_peers'])}.", ""]
    lines += _compute(found["variants"])
    return "\n".join(lines).rstrip() + "\n"


def _jobs(variants: dict[str, Any], reference: str) -> list[str]:
    lines = [
        "| files to predictions | samples/s | ratio | samples/CPU-s | ratio | peak RSS MB | max deviation | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = variants[reference]
    for name, one in variants.items():
        if name.startswith("compute:"):
            continue
        deviation = f"{one['max_deviation']:.1e}" if "max_deviation" in one else "not kept"
        # Peers are several processes, whose processor time and memory nobody adds up.
        by_cpu = "– | – | –"
        if "samples_per_cpu_s" in one:
            ratio = one["samples_per_cpu_s"] / base["samples_per_cpu_s"]
            by_cpu = f"{one['samples_per_cpu_s']:.0f} | {ratio:.2f} | {one['peak_rss_mb']:.0f}"
        lines.append(
            f"| {_label(name, one)} | {one['samples_per_s']:.0f} | {one['samples_per_s'] / base['samples_per_s']:.2f} "
            f"| {by_cpu} | {deviation} | {', '.join(f'{rate:.0f}' for rate in one['rounds'])} |"
        )
    return lines


def _label(name: str, one: dict[str, Any]) -> str:
    if "samples_per_s_of_loop" in one:
        return f"{name} (without its record: {one['samples_per_s_of_loop']:.0f} samples/s)"
    if "samples_per_s_with_start" not in one:
        return name
    return f"{name} {one['version']} (with its start: {one['samples_per_s_with_start']:.0f} samples/s)"


def _compute(variants: dict[str, Any]) -> list[str]:
    rows = {name: one for name, one in variants.items() if name.startswith("compute:")}
    if not rows:
        return []
    lines = [
        "| engine alone (engine/precision/threads) | samples/s | samples/CPU-s | of the GEMM rate (wall) | (CPU) |",
        "|---|---|---|---|---|",
    ]
    for name, one in rows.items():
        lines.append(
            f"| {name.removeprefix('compute:')} | {one['samples_per_s']:.0f} | {one['samples_per_cpu_s']:.0f} "
            f"| {one['of_gemm_wall']:.0%} | {one['of_gemm_cpu']:.0%} |"
        )
    return lines
