"""Results as Markdown."""

from typing import Any

BUSY = 1.5


def markdown(found: dict[str, Any], reference: str) -> str:
    """Machine, warnings, and one row a variant with its ratio to the reference."""
    machine = found["machine"]
    load = max(machine["load_average"], machine["load_average_after"])
    lines = [
        f"# Benchmark of {found['taken']}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        + f". {found['samples']} samples, medians of {found['rounds']} interleaved rounds.",
        "",
    ]
    if load > BUSY * machine["cores"]:
        lines += [
            f"**The machine was busy (load average {load:.1f} on {machine['cores']} cores): absolute rates mean "
            "little; compare ratios, and rates by CPU second.**",
            "",
        ]
    lines += [*_jobs(found["variants"], reference), "", *_compute(found["variants"])]
    return "\n".join(lines).rstrip() + "\n"


def _jobs(variants: dict[str, Any], reference: str) -> list[str]:
    lines = [
        "| files to predictions | samples/s | ratio | samples/CPU-s | ratio | peak RSS MB | max deviation |",
        "|---|---|---|---|---|---|---|",
    ]
    base = variants[reference]
    for name, one in variants.items():
        if name.startswith("compute:"):
            continue
        deviation = f"{one['max_deviation']:.1e}" if "max_deviation" in one else "not kept"
        lines.append(
            f"| {name} | {one['samples_per_s']:.0f} | {one['samples_per_s'] / base['samples_per_s']:.2f} "
            f"| {one['samples_per_cpu_s']:.0f} | {one['samples_per_cpu_s'] / base['samples_per_cpu_s']:.2f} "
            f"| {one['peak_rss_mb']:.0f} | {deviation} |"
        )
    return lines


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
