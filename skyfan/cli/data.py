"""`skyfan data`: simulate, inspect, clean, pack, fetch and upload datasets."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from skyfan import curation, store
from skyfan.cli.console import out, print_json, progress_bar, say
from skyfan.cli.options import Json, Quiet
from skyfan.columns import IN_TRAINING
from skyfan.curation import CleanReport, DatasetReport, Rules
from skyfan.errors import BadInput
from skyfan.science.sentinels import SENTINELS
from skyfan.sky import Subset, load_catalog, subset_rows, training_rows
from skyfan.sky import simulate as simulate_sky
from skyfan.units import counted, format_size

app = typer.Typer(no_args_is_help=True, help="Simulate, inspect, clean, pack, fetch and upload datasets.")


@app.command()
def simulate(
    output: Annotated[str, typer.Argument(metavar="OUT.pt", help="The dataset to write (path or URI).")],
    galaxies: Annotated[
        int | None, typer.Option(min=1, help="How many; the whole subset of the catalogue by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 7,
    catalog: Annotated[
        Path | None, typer.Option(help="Your catalogue (CSV); 5,000 SDSS galaxies come with Skyfan.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Your column names: z_spec=NAME,u=NAME,…,u_err=NAME,…")] = None,
    subset: Annotated[Subset, typer.Option(help="A fixed split of the catalogue: 4/5 train, 1/5 test.")] = "all",
    processes: Annotated[int | None, typer.Option(min=1, help="All CPUs by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Render real galaxies into a dataset: measured magnitudes and redshifts, simulated pixels."""
    table = load_catalog(catalog, _mapping(columns))
    chosen = table.take(subset_rows(len(table), subset))
    if not len(chosen):
        raise BadInput(f"the {subset} subset of {table.source} is empty; the catalogue needs at least 5 galaxies.")
    count = galaxies or len(chosen)
    training = None if catalog else training_rows(len(table), subset)
    with progress_bar(f"rendering {count:,} galaxies", quiet) as advance:
        simulate_sky(count, seed, output, chosen, processes, advance, training)
    say(f"wrote {output}: {count:,} galaxies, {format_size(store.head(output).size_bytes)}")
    trained = 0 if training is None else int(training[np.arange(count) % len(training)].sum())
    if trained:
        say(
            f"{trained:,} of them render a galaxy that the packaged model was trained on: the column {IN_TRAINING} "
            "marks them, and a run gives metrics of the others, too; --subset test has none."
        )


@app.command()
def inspect(
    dataset: Annotated[str, typer.Argument(metavar="FILE|URI", help="A dataset file of any format.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show shapes, types, ranges, NaN, sentinels and duplicates of a dataset, read once from end to end."""
    with progress_bar(f"reading {dataset}", quiet) as advance:
        report = curation.inspect(dataset, advance)
    if as_json:
        print_json(report)
    else:
        out.print(_tensor_table(report))
        out.print(f"{report.samples:,} samples, {format_size(report.size_bytes)}; {_duplicates(report)}")
        for tensor in report.tensors:
            if tensor.sentinel_values:
                out.print(
                    f"{counted(tensor.sentinel_values, 'value')} of {tensor.name} not measured "
                    f"({SENTINELS[tensor.name]}); `skyfan data clean` drops these samples"
                )
        if report.note:
            out.print(f"about the data: {report.note}")
        if report.skipped:
            out.print(f"not read, as it is neither numbers nor text of every sample: {', '.join(report.skipped)}")


@app.command()
def clean(
    source: Annotated[str, typer.Argument(metavar="IN", help="The dataset to read (file or URI).")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="The cleaned copy; OUT.json lists what was dropped.")],
    brightest_mag: Annotated[float, typer.Option(help="Magnitudes must be above this.")] = 5.0,
    faintest_mag: Annotated[float, typer.Option(help="Magnitudes must be below this.")] = 30.0,
    min_z: Annotated[float, typer.Option(help="Redshifts must be above this.")] = 0.0,
    max_z: Annotated[float, typer.Option(help="Redshifts must not be above this.")] = 10.0,
    keep_nonfinite: Annotated[bool, typer.Option("--keep-nonfinite", help="Keep NaN and infinities.")] = False,
    keep_blank: Annotated[bool, typer.Option("--keep-blank", help="Keep images of one single value.")] = False,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Keep repeated samples.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a dataset without its unusable samples, and list which were dropped and why."""
    rules = Rules(
        nonfinite=not keep_nonfinite,
        brightest_mag=brightest_mag,
        faintest_mag=faintest_mag,
        minimum_redshift=min_z,
        maximum_redshift=max_z,
        blank_images=not keep_blank,
        duplicates=not keep_duplicates,
    )
    with progress_bar(f"cleaning {source}", quiet) as advance:
        report = curation.clean(source, output, rules, advance)
    if as_json:
        print_json(report)
    else:
        if report.dropped:
            out.print(_dropped_table(report))
        out.print(f"kept {report.kept:,} of {report.samples:,} samples in {output}; details in {output}.json")


@app.command()
def pack(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="One file an object: .fits, .npy or .pt.")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder of Parquet shards; OUT.h5, OUT.npz: of these.")],
    catalog: Annotated[str | None, typer.Option(help="Table of the objects: Parquet, FITS, HDF5 or CSV.")] = None,
    id_column: Annotated[
        str, typer.Option("--id", help="The catalogue's column that files are called by, without suffix.")
    ] = "id",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one dataset of a folder with a file for every object. Stopped, the same command packs the rest."""
    with progress_bar(f"packing {folder}", quiet) as advance:
        report = curation.pack(folder, output, catalog=catalog, id_column=id_column, progress=advance)
    if as_json:
        print_json(report)
        return
    column = id_column if catalog else "id"
    out.print(
        f"packed {counted(report.objects, 'object')} into {counted(report.shards, 'file')}: "
        f"--dataset {report.output} --id {column}"
    )
    if report.missing:
        out.print(f"{counted(len(report.missing), 'object')} without a file, listed in {report.output}/missing.txt")


@app.command()
def fetch(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://… or a share link of Google Drive.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The file to write, or a folder.")] = ".",
    sha256: Annotated[str | None, typer.Option(help="What the content must have; 64 hex digits.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a file from the web to this machine. Stopped, the same command copies the rest."""
    with progress_bar(f"copying {url}", quiet, in_bytes=True) as advance:
        report = curation.fetch(url, target, sha256, advance)
    if as_json:
        print_json(report)
    else:
        out.print(f"copied {report.path}: {format_size(report.size_bytes)}, SHA-256 {report.sha256}")


@app.command()
def upload(
    source: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="What to upload.")],
    destination: Annotated[str, typer.Argument(metavar="URI", help="s3://bucket/key, or a prefix ending with /.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also upload files whose size and 16 blocks are there already.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Upload a file or folder. After an interrupt, the same command uploads the rest."""
    with progress_bar(f"uploading {source}", quiet, in_bytes=True) as advance:
        report = curation.upload(source, destination, force=force, progress=advance)
    if as_json:
        print_json(report)
    else:
        out.print(
            f"uploaded {counted(len(report.uploaded), 'object')} ({format_size(report.uploaded_bytes)}), "
            f"skipped {len(report.skipped):,} that were there already",
        )


def _mapping(columns: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in columns.split(",")] if columns else []
    for name, equals, theirs in pairs:
        if not (name.strip() and equals and theirs.strip()):
            raise BadInput(f"--columns {columns!r} is not a list such as z_spec=REDSHIFT,u=MAG_U.")
    return {name.strip(): theirs.strip() for name, _, theirs in pairs}


def _tensor_table(report: DatasetReport) -> Table:
    table = Table(title=report.uri, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("tensor", "dtype", "shape", "minimum", "maximum", "mean", "NaN", "±inf"):
        table.add_column(column, justify="left" if column in ("tensor", "dtype", "shape") else "right", no_wrap=True)
    for tensor in report.tensors:
        figures = [
            f"{value:.5g}" if value is not None else "–" for value in (tensor.minimum, tensor.maximum, tensor.mean)
        ]
        counts = [f"{tensor.nan_values:,}", f"{tensor.infinite_values:,}"]
        table.add_row(tensor.name, tensor.dtype, "×".join(map(str, tensor.shape)), *figures, *counts)
    return table


def _duplicates(report: DatasetReport) -> str:
    if not report.duplicates:
        return "no duplicates"
    listed = ", ".join(map(str, report.first_duplicates))
    more = ", …" if report.duplicates > len(report.first_duplicates) else ""
    return f"{report.duplicates:,} duplicates (samples {listed}{more})"


def _dropped_table(report: CleanReport) -> Table:
    table = Table(title=f"dropped from {report.source}", title_justify="left")
    table.add_column("reason")
    table.add_column("samples", justify="right")
    table.add_column("first indices")
    for reason, indices in report.dropped.items():
        more = ", …" if len(indices) > 5 else ""
        table.add_row(reason, f"{len(indices):,}", ", ".join(map(str, indices[:5])) + more)
    return table
