"""The aggregator on Lambda: `aggregate` after the map, `fail` when the pipeline itself failed."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from skyfan import store
from skyfan.errors import BadInput, RunConflict
from skyfan.reference_payload import parse_request
from skyfan.runs.folder import RunFolder, write_json
from skyfan.serving.lambda_dispatch import make_handler
from skyfan.serving.map_results import failed_ranks
from skyfan.stages import aggregate as core
from skyfan.stages.aggregate_messages import AggregateRequest

# LocalStack's functions set it to "localstack", so that nothing takes their times for Lambda's.
TARGET_VARIABLE = "SKYFAN_TARGET"


def _aggregate(event: Mapping[str, Any], _context: LambdaContext, _metrics: Metrics) -> dict[str, Any]:
    request, plan = event["request"], event["plan"]
    started_at = datetime.fromisoformat(event["execution"]["started_at"])
    summary = core.aggregate(
        AggregateRequest(
            output=request["output"],
            run_id=plan["run_id"],
            target=os.environ.get(TARGET_VARIABLE, "aws"),
            workers=request["max_concurrency"] or None,
            started_at=started_at,
            plan_s=(datetime.fromisoformat(plan["planned_at"]) - started_at).total_seconds(),
            failures=failed_ranks(f"s3://{plan['results']['bucket']}/{plan['results']['prefix']}", started_at),
        )
    )
    return {
        "status": "complete" if summary.state == "complete" else "incomplete",
        "summary": RunFolder(request["output"]).summary_uri,
        "ranks_done": summary.completeness.ranks_present,
        "samples_done": summary.completeness.samples_predicted,
        "samples_total": summary.completeness.samples_planned,
    }


def _fail(event: Mapping[str, Any], _context: LambdaContext, _metrics: Metrics) -> dict[str, Any]:
    """Writes the cause where the user looks; another run's folder is left alone."""
    failure, execution = event["failure"], event["execution"]
    try:
        output = parse_request(event["input"]).output
    except BadInput:
        return {"recorded": None}  # the input names no usable place; the execution itself shows the cause
    if failure.get("Error") == RunConflict.error_name():
        return {"recorded": None}
    uri = store.join(output, f"failure-{execution['name']}.json")
    write_json(uri, {"error": failure.get("Error"), "cause": failure.get("Cause"), "execution": execution})
    return {"recorded": uri}


handler = make_handler("aggregator", {"aggregate": _aggregate, "fail": _fail})
