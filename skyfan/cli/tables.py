"""Tables that commands print."""

from rich.table import Table

from skyfan.records import Summary
from skyfan.science.metrics import science_rows
from skyfan.units import format_duration, format_size


def summary_table(summary: Summary) -> Table:
    """What a run computed, what it took and how good it is."""
    table = Table(title=f"run {summary.run_id}: {summary.state}", show_header=False, title_justify="left")
    done, times, rates = summary.completeness, summary.timing, summary.throughput
    reused = f" ({summary.reused_ranks} reused)" if summary.reused_ranks else ""
    table.add_row("samples predicted", f"{done.samples_predicted:,} of {done.samples_planned:,}")
    table.add_row("ranks", f"{done.ranks_present} of {done.ranks_planned}{reused}, {summary.attempts} attempts")
    table.add_row("data", format_size(summary.data_bytes))
    table.add_row("wall time", format_duration(times.wall_s))
    table.add_row("  plan · map · aggregate", f"{times.plan_s:.2f} · {times.map_s:.2f} · {times.aggregate_s:.2f} s")
    table.add_row(
        "throughput (map)", f"{rates.samples_per_s_map:,.0f} samples/s, {rates.bits_per_s_map / 8e6:.1f} MB/s"
    )
    if met := summary.collectives:
        skew = "" if met.launch_skew_s is None else f", launch skew {met.launch_skew_s:.3f} s"
        table.add_row("collectives", f"{met.complete} of {met.ranks} ranks over {met.channel}{skew}")
    table.add_row("engine", ", ".join(summary.environment["engines"]))
    if summary.cost:
        table.add_row("on AWS Lambda (estimate)", f"${summary.cost.total_usd:.4f}")
    for reason, count in done.missing_reasons.items():
        table.add_row(f"missing: {reason}", f"{count:,}")
    rows = science_rows(summary.science)
    if rows:
        table.add_section()
    for label, value in rows:
        table.add_row(label, value)
    return table
