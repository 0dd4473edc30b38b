"""`skyfan demo`: redshifts of a thousand real galaxies on which the packaged model was not trained."""

from typing import Annotated

import typer

from skyfan import sky, store
from skyfan.cli import options
from skyfan.cli.console import progress_bar, say
from skyfan.cli.fetch import fetch
from skyfan.cli.run import execute, show
from skyfan.runs.folder import RunFolder

DEMO_GALAXIES = 1000
DEMO_SEED = 7
DEMO_PARTITION_BYTES = 2 * 2**20
AGAIN = "the same command again reuses these results; --no-resume computes them again."


@options.takes_job("workers", "resume")
def demo(
    fields: dict[str, object],
    output: Annotated[str, typer.Option(help="The run's folder (path or URI).")] = "runs/demo",
    dataset: Annotated[str, typer.Option(help="Where the demo dataset lies, or is rendered to.")] = "data/demo.pt",
    on: options.On = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    copy_to: options.CopyTo = None,
) -> None:
    """Render the demo galaxies once, then run the packaged model over them."""
    was_there = fields.get("resume", True) and store.exists(RunFolder(output).summary_uri)
    make_demo_dataset(dataset, quiet=quiet or as_json)
    job = options.make_job(fields | {"dataset": dataset, "output": output, "partition_size": DEMO_PARTITION_BYTES})
    summary = execute(job, on, quiet=quiet or as_json)
    if copy_to:
        fetch(output, copy_to, quiet=quiet or as_json)
    if not quiet and not as_json:
        say("these results were there and are reused; --no-resume computes them again." if was_there else AGAIN)
    show(summary, as_json=as_json, quiet=quiet)


def make_demo_dataset(dataset: str, *, quiet: bool) -> None:
    """Renders the 1,000 test galaxies of the packaged catalogue, unless `dataset` exists."""
    if store.exists(dataset) or next(iter(store.list(dataset)), None):
        return
    catalog = sky.load_catalog()
    test = catalog.take(sky.subset_rows(len(catalog), "test"))
    with progress_bar(f"rendering {DEMO_GALAXIES:,} galaxies", quiet) as advance:
        sky.simulate(DEMO_GALAXIES, DEMO_SEED, dataset, test, None, advance)
    if not quiet:
        say(f"rendered {DEMO_GALAXIES:,} galaxies into {dataset}")
