"""What the Lambda handlers share: dispatch by `op` to a typed event, errors by name, logs and metrics.

Metrics are CloudWatch's embedded metric format ("Specification: Embedded metric format",
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html,
as of 2026-11), written by Powertools.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, ValidationError

from skyfan import logs
from skyfan.errors import BadInput, SkyfanError
from skyfan.rpc.lambda_errors import lambda_error
from skyfan.validation import first_problem

NAMESPACE = "Skyfan"

# The event's type, and what is done with it: any event model → any reply model.
Operation = tuple[type[BaseModel], Callable[[Any, LambdaContext, Metrics], BaseModel]]
Handler = Callable[[Mapping[str, Any], LambdaContext], dict[str, Any]]


def make_handler(service: str, operations: Mapping[str, Operation]) -> Handler:
    """The handler of one function: the event's `op`, or `detail-type`, chooses the operation.

    An error leaves it under the name that Step Functions matches on, with its sentence as the message.
    """
    logs.configure(service)
    metrics = Metrics(namespace=NAMESPACE, service=service)
    metrics.set_default_dimensions(service=service)

    def handle(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            service=service,
            request_id=context.aws_request_id,
            execution=_execution_name(event),
            run_id=event.get("run_id"),
            rank=event.get("rank"),
        )
        log = structlog.get_logger(service)
        try:
            return _dispatch(operations, event, context, metrics)
        except ValidationError as error:
            log.warning("bad event", error=first_problem(error))
            raise lambda_error(BadInput(f"the event is not as expected: {first_problem(error)}")) from error
        except SkyfanError as error:
            metrics.add_metric(name="Failures", unit=MetricUnit.Count, value=1)
            log.warning("failed", error=error.error_name(), message=str(error))
            raise lambda_error(error) from error

    wrapped: Handler = metrics.log_metrics(capture_cold_start_metric=True)(handle)
    return wrapped


def _dispatch(
    operations: Mapping[str, Operation], event: Mapping[str, Any], context: LambdaContext, metrics: Metrics
) -> dict[str, Any]:
    name = event.get("op") or event.get("detail-type")  # the state machine's events, or EventBridge's
    found = operations.get(str(name))
    if found is None:
        raise BadInput(f"op {name!r} is not known; this function does {', '.join(operations)}.")
    kind, operation = found
    return operation(kind.model_validate(event), context, metrics).model_dump(mode="json", by_alias=True)


def _execution_name(event: Mapping[str, Any]) -> str | None:
    """By which `skyfan runs logs` finds a run's lines; a rank's event has the name alone, so that it stays small."""
    execution = event.get("execution")
    return execution.get("name") if isinstance(execution, Mapping) else execution
