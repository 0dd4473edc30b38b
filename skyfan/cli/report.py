"""`skyfan report`: a run's summary and page again, from what its ranks committed."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from services.aggregator.requests import AggregateRequest
from skyfan import store
from skyfan.cli import options
from skyfan.cli.run import show
from skyfan.records import Summary
from skyfan.runfolder import RunFolder


def report(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The run's folder (path or URI).")],
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Print a run's summary and write its report page again."""
    from services.aggregator import core as aggregator  # draws with matplotlib, which no other command needs

    folder = RunFolder(output)
    plan = folder.read_plan()
    if store.exists(folder.summary_uri):
        summary = Summary.model_validate_json(store.read(folder.summary_uri))
        aggregator.write_report(folder, plan, summary)
    else:
        request = AggregateRequest(output=output, run_id=plan.run_id, target="report", started_at=datetime.now(UTC))
        summary = aggregator.aggregate(request)
    show(summary, as_json=as_json, quiet=quiet)
