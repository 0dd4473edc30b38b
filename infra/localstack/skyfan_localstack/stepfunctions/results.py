"""A child's result as AWS writes it down.

AWS: "ResultWriter (Map)", https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
(as of 2026-11).
"""

import json
from typing import Any

from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501
    MapRunRecord,
)

from skyfan_localstack.stepfunctions.ledger import Child, Status

# Where the evaluation of a map leaves its record for the ResultWriter of the same state.
RECORD = "skyfan.map_run_record"


def as_result(record: MapRunRecord, index: int, child: Child) -> dict[str, Any]:
    """Input, output or error, times and names; children have no ARN in LocalStack, theirs is made up alike."""
    arn = record.map_run_arn.replace(":mapRun:", ":execution:", 1)
    result: dict[str, Any] = {
        "ExecutionArn": f"{arn}:{index}",
        "Input": json.dumps(child.input),
        "InputDetails": {"Included": True},
        "Name": str(index),
        "StateMachineArn": record.map_state_machine_arn,
        "Status": child.status.value,
    }
    if child.started_at:
        result["StartDate"] = child.started_at.isoformat()
    if child.stopped_at:
        result["StopDate"] = child.stopped_at.isoformat()
    if child.status is Status.SUCCEEDED:
        result |= {"Output": json.dumps(child.output), "OutputDetails": {"Included": True}}
    if child.error:
        result |= {"Error": child.error, "Cause": child.cause}
    return result
