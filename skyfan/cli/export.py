"""`skyfan export`: a run's predictions as one table."""

from pathlib import Path
from typing import Annotated

import typer

import skyfan
from skyfan.cli import options
from skyfan.cli.console import say
from skyfan.runs.exports.export import FORMATS

Format = Annotated[str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default that of OUT's suffix.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Also where samples have no prediction.")]


def export(
    output: Annotated[str, typer.Argument(metavar="RUN", help="The run's folder (path or URI).")],
    path: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="sky.parquet, sky.fits, sky.csv, sky.ecsv, sky.hdf5 (qp), or a folder for HATS."
        ),
    ],
    kind: Format = None,
    allow_missing: AllowMissing = False,
    quiet: options.Quiet = False,
) -> None:
    """Write all predictions of a run as one table: Parquet with a VOTable header, FITS, CSV, ECSV, HATS, or qp."""
    rows = skyfan.open_run(output).export(path, kind, allow_missing=allow_missing)
    if not quiet:
        say(f"{rows:,} rows in {path}")
