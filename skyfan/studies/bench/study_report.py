"""A study's report: tables as CSV and Markdown, figures as SVG and PDF, and one self-contained page."""

import dataclasses
import io
import json
from collections.abc import Sequence
from functools import partial
from importlib import resources
from operator import attrgetter
from typing import Any

import jinja2

from skyfan import store
from skyfan.cost import Prices
from skyfan.job import WHOLE_FILES
from skyfan.report.drawing import Figure
from skyfan.report.figures import page_svg, style, to_svg
from skyfan.studies import text_tables
from skyfan.studies.bench import study_figures as figures
from skyfan.studies.bench import study_tables as tables
from skyfan.studies.bench.measurements import STUDY_FILE, Measurement, read_measurements
from skyfan.studies.bench.study_tables import Row


@dataclasses.dataclass(frozen=True, slots=True)
class NamedTable:
    """One table of the report; `note` explains what it means or how it was measured."""

    name: str
    title: str
    rows: list[Row]
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class NamedFigure:
    """One figure of the report, with a description for those who cannot see it."""

    name: str
    title: str
    figure: Figure


def write_report(folder: str, prices: Prices) -> str:
    """Writes all tables and figures of the study in `folder` (path or URI) and returns the URI of its page.

    Raises:
        BadInput: the folder has no measurements.
    """
    measurements = read_measurements(folder)
    content = json.loads(store.read(store.join(folder, STUDY_FILE)))
    found, drawn = study_tables(measurements, prices), study_figures(measurements, prices)
    for table in found:
        store.put(store.join(folder, "tables", f"{table.name}.csv"), text_tables.write_csv(table.rows).encode())
        store.put(store.join(folder, "tables", f"{table.name}.md"), markdown(table).encode())
    page = store.join(folder, "report.html")
    with style():  # also while saving: it makes the same picture the same file
        for one in drawn:
            store.put(store.join(folder, "figures", f"{one.name}.svg"), to_svg(one.figure).encode())
            store.put(store.join(folder, "figures", f"{one.name}.pdf"), _pdf(one.figure))
        store.put(page, render(content, measurements, found, drawn).encode())
    return page


def study_tables(measurements: Sequence[Measurement], prices: Prices) -> list[NamedTable]:
    """The experiment table, and every table that compares an option which the study varies."""
    varied = varied_options(measurements)
    found = [NamedTable("experiments", "Experiments", tables.experiments(measurements))]
    if "batch_size" in varied:
        found.append(NamedTable("batch-sizes", "Batch-size analysis", tables.batch_sizes(measurements)))
    if "partition_size" in varied:
        rows = tables.input_partitions(measurements)
        found.append(NamedTable("input-partitions", "Execution time against input partitions", rows))
    if varied & {"partition_size", "repeat"}:
        note = "What Lambda would bill for ranks that take as long as they took here."
        found.append(NamedTable("costs", "Cost by partition size", tables.costs(measurements, prices), note))
    if varied & {"place", "layout"}:
        note = "Reading overlaps with compute; what it costs a run is what compute waited."
        found.append(NamedTable("data-access", "Data access", tables.data_access(measurements), note))
    if "workers" in varied:
        found.append(NamedTable("scaling", "Scaling", tables.scaling(measurements)))
    if {one.setting.on for one in measurements} > {"process"} and len({one.setting.on for one in measurements}) == 2:
        rows, meaning = tables.local_against_distributed(measurements)
        found.append(NamedTable("local-against-distributed", "One process against the fan-out", rows, meaning))
    if any(one.setting.repeat > 1 for one in measurements):
        found[0] = dataclasses.replace(found[0], note="Data beyond the dataset's own size are the dataset repeated.")
    return found


def study_figures(measurements: Sequence[Measurement], prices: Prices) -> list[NamedFigure]:
    """Every figure of an option which the study varies, and the ranks of the last run."""
    varied = varied_options(measurements)
    whole_files = WHOLE_FILES in {one.setting.partition_size for one in measurements}
    time, rate = attrgetter("wall_s"), attrgetter("samples_per_s")
    found: list[tuple[str, str, Figure]] = []
    if "batch_size" in varied:
        draw = partial(figures.against_batch, measurements)
        batch_time = draw(attrgetter("batch_s"), "time per batch (s)")
        found.append(("time-batch", "Time per batch against batch size", batch_time))
        found.append(("throughput-batch", "Throughput by batch size", draw(rate, "samples/s")))
    if "partition_size" in varied and not whole_files:
        draw = partial(figures.against_partitions, measurements)
        found.append(("time-partitions", "Wall time by partition size", draw(time, "wall time (s)")))
        found.append(("throughput-partitions", "Throughput by partition size", draw(rate, "samples/s")))
    if "repeat" in varied:
        found.append(("cost-data", "Cost against data size", figures.cost_against_data(measurements, prices)))
    if "workers" in varied:
        found.append(("scaling", "Speed-up with ranks at once", figures.scaling_efficiency(measurements)))
    if varied & {"place", "layout"}:
        found.append(("data-access", "Reading by place and files", figures.reading(measurements)))
    found.append(("durations", "Durations of all ranks", figures.rank_durations(measurements)))
    found.append(("timeline", "Ranks of the last measured run", figures.rank_timeline(measurements[-1])))
    return [NamedFigure(*each) for each in found]


def varied_options(measurements: Sequence[Measurement]) -> set[str]:
    """The options that the study's settings differ in."""
    dumps = [one.setting.model_dump() for one in measurements]
    return {name for name in dumps[0] if len({dump[name] for dump in dumps}) > 1}


def render(
    content: dict[str, Any],
    measurements: Sequence[Measurement],
    found: Sequence[NamedTable],
    drawn: Sequence[NamedFigure],
) -> str:
    """The page as HTML: no script, no network."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("skyfan.studies.bench").joinpath("study.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        study=content["study"],
        environment=content["environment"],
        measurements=len(measurements),
        repetitions=content["study"]["repetitions"],
        several=content["study"]["repetitions"] > 1,
        tables=found,
        figures=[(one.title, page_svg(one.figure, one.name, one.title)) for one in drawn],
        cell=cell,
    )


def cell(value: Any) -> str:
    """A value as a table shows it: four significant digits."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def markdown(table: NamedTable) -> str:
    """The table in Markdown, with its title and note."""
    body = text_tables.markdown(list(table.rows[0]), [list(map(cell, row.values())) for row in table.rows])
    return f"### {table.title}\n\n{body}" + (f"\n{table.note}\n" if table.note else "")


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()
