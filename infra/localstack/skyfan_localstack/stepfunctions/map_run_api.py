"""DescribeMapRun, ListMapRuns and UpdateMapRun: work while other executions start, and change a running map.

As shipped, LocalStack looks through all executions for a map run and fails with an internal error when one of
them has not begun yet, and UpdateMapRun has no effect (here `map_run` reads its values as it goes). AWS, read
2026-11: https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeMapRun.html,
API_ListMapRuns.html and API_UpdateMapRun.html.
"""

from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.api.stepfunctions import (
    DescribeMapRunOutput,
    ListMapRunsOutput,
    ResourceNotFound,
    UpdateMapRunOutput,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501
    MapRunRecord,
)
from localstack.services.stepfunctions.backend.execution import Execution
from localstack.services.stepfunctions.provider import StepFunctionsProvider
from localstack.utils.patch import Patch


def _records(execution: Execution) -> list[MapRunRecord]:
    env = execution.exec_worker.env if execution.exec_worker else None
    return list(env.map_run_record_pool_manager.get_all()) if env else []


def _find(provider: StepFunctionsProvider, context: RequestContext, map_run_arn: str) -> MapRunRecord:
    for execution in list(provider.get_store(context).executions.values()):
        for record in _records(execution):
            if record.map_run_arn == map_run_arn:
                return record
    raise ResourceNotFound(f"Map Run not found: '{map_run_arn}'")


def _describe(self: StepFunctionsProvider, context: RequestContext, map_run_arn: str, **_: Any) -> DescribeMapRunOutput:
    return _find(self, context, map_run_arn).describe()


def _list(self: StepFunctionsProvider, context: RequestContext, execution_arn: str, **_: Any) -> ListMapRunsOutput:
    execution = self._get_execution(context=context, execution_arn=execution_arn)
    return ListMapRunsOutput(mapRuns=[record.list_item() for record in _records(execution)])


def _update(
    self: StepFunctionsProvider,
    context: RequestContext,
    map_run_arn: str,
    max_concurrency: int | None = None,
    tolerated_failure_percentage: float | None = None,
    tolerated_failure_count: int | None = None,
    **_: Any,
) -> UpdateMapRunOutput:
    record = _find(self, context, map_run_arn)
    record.update(max_concurrency, tolerated_failure_count, tolerated_failure_percentage)
    return UpdateMapRunOutput()


def apply_patch() -> None:
    """Replace the three operations."""
    for name, operation in (("describe_map_run", _describe), ("list_map_runs", _list), ("update_map_run", _update)):
        Patch(StepFunctionsProvider, name, operation).apply()
