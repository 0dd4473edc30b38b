"""`skyfan partition`: real partition files, the reference system's layout."""

from typing import Annotated

import typer

from skyfan.cli import options
from skyfan.cli.console import print_json, progress_bar, say
from skyfan.stages.partition_files import split
from skyfan.stages.plan_messages import DatasetCut
from skyfan.units import counted


def partition(
    dataset: options.Dataset,
    output: Annotated[str, typer.Option(help="Folder (path or URI) to write 1.pt, 2.pt, … into.")],
    partition_size: options.PartitionSize = options.DEFAULT_PARTITION,
    file_limit: options.FileLimit = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write partitions as files of their own. A run does not need them."""
    request = DatasetCut(
        dataset=dataset,
        partition_size_bytes=options.partition_bytes(partition_size),
        file_limit=options.positive(file_limit, "--file-limit"),
    )
    with progress_bar("writing partitions", quiet or as_json) as advance:
        written = split(request, output, advance)
    if as_json:
        print_json({"output": output, "files": written})
    elif not quiet:
        say(f"wrote {counted(len(written), 'file')} to {output}")
