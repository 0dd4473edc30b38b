"""ResultWriter: writes the children's results, after a map that failed as well, and takes its place from the input.

As shipped, LocalStack writes a manifest with empty lists, nothing when the map failed, and looks for the paths in
`Parameters` (`"Prefix.$": "$.prefix"`) among the children's outputs and not in the state's input. On AWS the
results are grouped by status into SUCCEEDED_n.json, FAILED_n.json and PENDING_n.json beside manifest.json:
"ResultWriter (Map)", https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
(as of 2026-11).
"""

import json
from collections.abc import Callable
from typing import Any

from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import FailureEventException
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501
    MapRunRecord,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.result_writer.resource_eval.resource_eval_s3 import (  # noqa: E501
    ResourceEvalS3,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.result_writer.result_writer_decl import (  # noqa: E501
    ResultWriter,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.state_map import StateMap
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.utils.patch import Patch

from skyfan_localstack.stepfunctions.failures import map_run_failure
from skyfan_localstack.stepfunctions.ledger import Ledger, Status, ledger_of
from skyfan_localstack.stepfunctions.results import RECORD, as_result

# A child that was running when the map failed was aborted: AWS lists it with the failed ones.
_GROUPS = {
    Status.SUCCEEDED: "SUCCEEDED",
    Status.FAILED: "FAILED",
    Status.TIMED_OUT: "FAILED",
    Status.ABORTED: "FAILED",
    Status.PENDING: "PENDING",
    Status.RUNNING: "PENDING",
}


def group_results(record: MapRunRecord, ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """The results by the file that they belong in, in the items' order."""
    groups: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for index, child in enumerate(ledger.children):
        groups[_GROUPS[child.status]].append(as_result(record, index, child))
    return groups


def _put_results(env: Environment, resource_runtime_part: Any, state_credentials: Any) -> None:
    """In place of `ResourceEvalS3._handle_put_object`."""
    target = env.stack.pop()
    env.stack.pop()  # the outputs, which the ledger holds with more
    record: MapRunRecord = env.heap[RECORD]
    ledger = ledger_of(record)
    prefix = target.get("Prefix", "")
    folder = (f"{prefix.rstrip('/')}/" if prefix else "") + record.map_run_arn.rpartition(":")[2]
    client = ResourceEvalS3._get_s3_client(resource_runtime_part, state_credentials)

    def put(name: str, content: Any) -> dict[str, Any]:
        key, body = f"{folder}/{name}", json.dumps(content).encode()
        client.put_object(Bucket=target["Bucket"], Key=key, Body=body, ContentType="application/json")
        return {"Key": key, "Size": len(body)}

    groups = group_results(record, ledger) if ledger else {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    files = {status: [put(f"{status}_0.json", rows)] if rows else [] for status, rows in groups.items()}
    manifest = put(
        "manifest.json",
        {
            "DestinationBucket": target["Bucket"],
            "MapRunArn": record.map_run_arn,
            "ResultFiles": files,
        },
    )
    if ledger:
        ledger.results_written(len(groups["SUCCEEDED"]) + len(groups["FAILED"]))
    details = {"Bucket": target["Bucket"], "Key": manifest["Key"]}
    env.stack.append({"MapRunArn": record.map_run_arn, "ResultWriterDetails": details})


def _put_or_fail(env: Environment, resource_runtime_part: Any, state_credentials: Any) -> None:
    try:
        _put_results(env, resource_runtime_part, state_credentials)
    except Exception as error:
        raise map_run_failure(env, StatesErrorNameType.StatesResultWriterFailed, str(error)) from error


def _evaluate(writer: ResultWriter, env: Environment) -> None:
    """In place of `ResultWriter._eval_body`: paths are looked up in what lies on top of the stack."""
    outputs = env.stack.pop()
    depth = len(env.stack)
    env.stack.append(env.states.get_input())
    writer.parargs.eval(env)
    target = env.stack.pop()
    del env.stack[depth:]
    env.stack += [outputs, target]
    writer.resource_eval.eval_resource(env)


def _also_after_failure(as_shipped: Callable[[StateMap, Environment], None]) -> Callable[..., None]:
    def evaluate(state: StateMap, env: Environment) -> None:
        try:
            as_shipped(state, env)
        except FailureEventException as failure:
            name = failure.failure_event.error_name
            if state.result_writer and name and name.error_name == "States.ExceedToleratedFailureThreshold":
                env.stack.append([])
                state.result_writer.eval(env)
                env.stack.pop()
            raise

    return evaluate


def apply_patch() -> None:
    """Replace the writing, and extend it to maps that exceeded their tolerance."""
    Patch(ResultWriter, "_eval_body", _evaluate).apply()
    Patch(ResourceEvalS3, "_handle_put_object", staticmethod(_put_or_fail)).apply()
    Patch(StateMap, "_eval_execution", _also_after_failure(StateMap._eval_execution)).apply()
