"""`skyfan partition`: real partition files, the reference system's layout."""

from typing import Annotated

import typer

from skyfan.cli import options
from skyfan.cli.console import print_json, progress_bar, say
from skyfan.stages.partition_files import write_partitions
from skyfan.units import counted


@options.takes_job("dataset", "partition_size", "file_limit")
def partition(
    fields: dict[str, object],
    output: Annotated[str, typer.Option(help="Folder (path or URI) to write 1.pt, 2.pt, … into.")],
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write partitions as files of their own. A run does not need them."""
    job = options.make_job(fields)
    with progress_bar("writing partitions", quiet or as_json) as advance:
        written = write_partitions(job.dataset, job.partition_size, output, advance, job.file_limit)
    if as_json:
        print_json({"output": output, "files": written})
    elif not quiet:
        say(f"wrote {counted(len(written), 'file')} to {output}")
