"""`skyfan plan`: the plan as a table, without running or writing anything."""

from rich.table import Table

from services.partitioner.core import draft
from services.partitioner.requests import DatasetCut
from skyfan.cli import options
from skyfan.cli.console import out, print_json
from skyfan.plan import Plan, RunOptions
from skyfan.units import format_size

MAX_LISTED_RANKS = 20
# A plan that is only looked at names no model, and so has no identity of its own.
NO_MODEL = ""


def plan(
    dataset: options.Dataset,
    partition_size: options.PartitionSize = options.DEFAULT_PARTITION,
    world_size: options.WorldSize = None,
    file_limit: options.FileLimit = None,
    as_json: options.Json = False,
) -> None:
    """Show which samples each rank would compute. Reads metadata only."""
    request = DatasetCut(
        dataset=dataset,
        partition_size_bytes=options.partition_bytes(partition_size),
        world_size=options.positive(world_size, "--world-size"),
        file_limit=options.positive(file_limit, "--file-limit"),
    )
    planned = draft(request, model=NO_MODEL, model_digest=NO_MODEL, options=RunOptions())
    if as_json:
        print_json(
            planned.model_dump(mode="json", by_alias=True, exclude={"run_id", "model", "model_digest", "options"})
        )
    else:
        out.print(_table(planned))


def _table(planned: Plan) -> Table:
    table = Table(
        "rank",
        "samples",
        "data",
        "reads",
        title=(
            f"{planned.samples:,} samples, {format_size(planned.data_bytes)} in {len(planned.files)} file(s) → "
            f"{planned.partitions} partitions, {len(planned.working_ranks)} of {planned.world_size} ranks at work"
        ),
        title_justify="left",
    )
    for rank in planned.working_ranks[:MAX_LISTED_RANKS]:
        item = planned.item(rank)
        table.add_row(str(rank), f"{item.samples:,}", format_size(item.data_bytes), item.data_path)
    left = len(planned.working_ranks) - MAX_LISTED_RANKS
    if left > 0:
        table.add_row("…", "", "", f"{left} more ranks")
    return table
