"""`skyfan bench`: studies, measured and reported."""

import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from skyfan import logs, store
from skyfan.cli.console import err, print_json, say
from skyfan.cli.options import Json, Model, Prices, Quiet
from skyfan.cost import load_prices
from skyfan.models import DEMO_MODEL
from skyfan.studies.bench import Setting, Study, load_study, run_study
from skyfan.studies.bench.runner import PipelineRunner, quick_repeats
from skyfan.units import format_duration


def bench_command(
    studies: Annotated[list[str], typer.Argument(help="Packaged studies by name, or .toml files.", metavar="STUDY...")],
    dataset: Annotated[str, typer.Option(help="A .pt file or a folder of them (URI).")] = "data/demo.pt",
    model: Model = DEMO_MODEL,
    output: Annotated[str, typer.Option(help="Folder for the studies, one below it each.")] = "studies",
    quick: Annotated[bool, typer.Option("--quick", help="The study's smaller form, on small data repeated.")] = False,
    s3: Annotated[str | None, typer.Option(help="Prefix to copy the data to, for studies that read from S3.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of measuring.")] = 0,
    prices: Prices = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure studies, in random interleaved order, and write their tables, figures and page.

    Finished measurements are kept: the same command continues where it stopped.
    """
    from skyfan.studies.bench.study_report import write_report  # draws with matplotlib, which most commands do not need

    logs.configure("driver", level="warning")
    pages = {}
    chosen = [load_study(name, quick=quick) for name in studies]
    if quick:
        chosen = [study.enlarged(quick_repeats(dataset)) for study in chosen]
    for study in chosen:
        folder = store.join(output, f"{study.name}-quick" if quick else study.name)
        runner = PipelineRunner(dataset, model, store.join(output, "work"), s3)
        _measure(study, folder, runner, seed, quiet=quiet or as_json)
        pages[study.name] = write_report(folder, load_prices(prices))
        if not as_json and not quiet:
            say(f"{study.name}: {pages[study.name]}")
    if as_json:
        print_json({"schema": "skyfan.bench/1", "reports": pages})


def _measure(study: Study, folder: str, runner: PipelineRunner, seed: int, *, quiet: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task(escape(study.name), total=None, left="")
        started: list[tuple[float, int]] = []

        def show(done: int, total: int, setting: Setting) -> None:
            started.append((time.monotonic(), done))
            (zero_s, before), now_s = started[0], time.monotonic()
            left = (now_s - zero_s) / (done - before) * (total - done) if done > before else None
            text = escape(f"{study.name} {setting.differs_from(Setting()) or ''}")
            progress.update(
                task,
                completed=done,
                total=total,
                description=text,
                left=f"{format_duration(left)} left" if left else "",
            )

        run_study(study, folder, runner, seed=seed, progress=show)
