"""A run's summary as rows of two cells, for tables and notebooks."""

from skyfan.preprocessing import parse_steps
from skyfan.records import ClassesSummary, Summary
from skyfan.science.metrics import science_rows
from skyfan.units import counted, format_duration, format_size

MAX_CLASS_ROWS = 10


def _where(summary: Summary) -> str:
    """Devices and threads of an executor; summaries of earlier versions do not name them."""
    devices, threads = (summary.environment.get(name, []) for name in ("devices", "threads"))
    each = " or ".join(f"{count}" for count in threads)
    workers = f", {counted(summary.workers, 'executor')}" if summary.workers else ""
    return f"{', '.join(devices) or 'unknown device'}, {each or '?'} threads{workers}"


def summary_rows(summary: Summary) -> list[tuple[str, str]]:
    """What a run computed, what it took and how good it is: label and value."""
    done, times, rates = summary.completeness, summary.timing, summary.throughput
    reused = f" ({summary.reused_ranks} reused)" if summary.reused_ranks else ""
    known_s = (times.plan_s, times.map_s, times.aggregate_s)
    # Converting the model, starting executors; the page is drawn after the summary.
    parts_s = (*known_s, max(0.0, times.wall_s - sum(known_s)))
    rows = [
        ("samples predicted", f"{done.samples_predicted:,} of {done.samples_planned:,}"),
        ("ranks", f"{done.ranks_present} of {done.ranks_planned}{reused}, {counted(summary.attempts, 'attempt')}"),
        ("data", format_size(summary.data_bytes)),
        ("wall time", format_duration(times.wall_s)),
        ("  plan · map · aggregate · other", " · ".join(f"{part_s:.2f}" for part_s in parts_s) + " s"),
        ("throughput (map)", f"{rates.samples_per_s_map:,.0f} samples/s, {rates.bits_per_s_map / 8e6:.1f} MB/s"),
    ]
    if met := summary.collectives:
        skew = "" if met.launch_skew_s is None else f", launch skew {met.launch_skew_s:.3f} s"
        rows.append(("collectives", f"{met.complete} of {met.ranks} ranks over {met.channel}{skew}"))
    if summary.verified_tensors is not None:
        rows.append(("reads verified", counted(summary.verified_tensors, "tensor")))
    if join := summary.catalog:
        matched = f"{join.samples_matched:,} of {join.samples_matched + join.samples_unmatched:,}"
        rows.append(("catalogue, samples with a row", f"{matched} (by {join.joined_by or 'row number'})"))
    rows.append(("engine", ", ".join(summary.environment["engines"])))
    rows.append((f"  on {summary.target}", _where(summary)))
    if summary.cost and summary.ran_on_aws:
        rows.append(("on AWS Lambda (estimate)", f"${summary.cost.total_usd:.4f}"))
    rows += [("before the model", str(step)) for step in parse_steps(summary.options.get("preprocess", ()))]
    rows += [(f"replaced values: {column}", f"{count:,}") for column, count in summary.replaced_values.items()]
    rows += [(f"missing: {reason}", f"{count:,}") for reason, count in done.missing_reasons.items()]
    rows += [("about the data", note) for note in summary.caveats]
    if calibration := summary.calibration:
        on = f"±{calibration['half_width']} (1 + z) from {calibration['samples']:,} galaxies of {calibration['uri']}"
        rows.append(("calibrated intervals", on))
    if anomalies := summary.anomalies:
        first = ", ".join(f"{index}" for index, _ in anomalies.samples[:5])
        rows.append((f"most unusual by {anomalies.output}", f"samples {first}"))
    if summary.classes:
        rows += class_rows(summary.classes)
    rows += science_rows(summary.science, summary.science_errors)
    if unseen := summary.science_unseen:
        of_others = science_rows(unseen, summary.science_unseen_errors)
        rows += [("metrics over galaxies the model was not trained on", of_others[0][1])]
        rows += [(f"  {label.strip()}", value) for label, value in of_others[1:]]
    return rows


def class_rows(classes: ClassesSummary) -> list[tuple[str, str]]:
    """The largest classes, and how right they are where that is known."""
    order = sorted(range(len(classes.names)), key=lambda number: -classes.counts[number])
    rows = [(f"class {classes.names[number]}", f"{classes.counts[number]:,}") for number in order[:MAX_CLASS_ROWS]]
    if len(order) > MAX_CLASS_ROWS:
        rows.append((f"{len(order) - MAX_CLASS_ROWS} further classes", "summary.json has them"))
    if classes.accuracy is not None and classes.calibration_error is not None:
        rows.append((f"accuracy of {classes.labelled:,} with known class", f"{classes.accuracy:.2%}"))
        rows.append(("expected calibration error", f"{classes.calibration_error:.4f}"))
    return rows
