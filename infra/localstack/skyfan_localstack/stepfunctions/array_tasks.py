"""Batch and SageMaker tasks: they talk to the schedulers that AWS_ENDPOINT_URL_BATCH and …_SAGEMAKER name.

LocalStack's open core evaluates `batch:submitJob.sync` with no Batch behind it, and refuses
`sagemaker:createProcessingJob.sync`. On AWS, an execution that is stopped or timed out stops the job that it waits for
("Run a job (.sync)", https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html, read 2026-11); as
shipped, the job would run on.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import ClientError
from localstack.aws.api.stepfunctions import HistoryEventType, TaskFailedEventDetails
from localstack.services.stepfunctions.asl.component.common.error_name.custom_error_name import CustomErrorName
from localstack.services.stepfunctions.asl.component.common.error_name.error_name import ErrorName
from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task import state_task_factory
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.credentials import (
    StateCredentials,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service,
    state_task_service_batch,
    state_task_service_callback,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.service.resource import (
    ResourceCondition,
    ResourceRuntimePart,
)
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localstack.utils.patch import Patch

_CREATE_PROCESSING_JOB = {
    "AppSpecification",
    "Environment",
    "ExperimentConfig",
    "NetworkConfig",
    "ProcessingInputs",
    "ProcessingJobName",
    "ProcessingOutputConfig",
    "ProcessingResources",
    "RoleArn",
    "StoppingCondition",
    "Tags",
}
_CAUSE = "the execution that waited for the job has ended"


def scheduler_client(service: str, region: str, state_credentials: StateCredentials | None = None) -> Any:  # noqa: ARG001
    """A client of an emulated scheduler, which knows no credentials (the arguments are those of `boto_client_for`).

    boto3 itself reads the endpoint's variable.
    """
    make: Any = boto3.client  # typed by a literal for each service
    return make(
        service,
        region_name=region,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 (a placeholder: nobody checks it)
    )


@dataclass(frozen=True)
class Waiting:
    """A job that a task waits for: what it came to, or None while it runs."""

    look: Callable[[], Any | None]
    stop: Callable[[], None]

    def __call__(self) -> Any | None:  # noqa: D102
        return self.look()


class _StopsItsJob(state_task_service_callback.StateTaskServiceCallback):
    """A task whose job ends with it."""

    def _eval_sync(self, env: Environment, sync_resolver: Waiting, **given: Any) -> Any:
        outcome = super()._eval_sync(env=env, sync_resolver=sync_resolver, **given)
        if outcome is None and not env.is_running():
            sync_resolver.stop()
        return outcome


class BatchTask(_StopsItsJob, state_task_service_batch.StateTaskServiceBatch):
    """`batch:submitJob.sync`."""

    def _build_sync_resolver(
        self, env: Environment, resource_runtime_part: ResourceRuntimePart, **given: Any
    ) -> Waiting:
        job_id = env.stack[-1]["JobId"]
        batch = scheduler_client("batch", resource_runtime_part.region)
        look = super()._build_sync_resolver(env=env, resource_runtime_part=resource_runtime_part, **given)
        return Waiting(look, lambda: batch.terminate_job(jobId=job_id, reason=_CAUSE))


class SageMakerTask(_StopsItsJob):
    """`sagemaker:createProcessingJob.sync`."""

    def __init__(self) -> None:
        super().__init__(supported_integration_patterns={ResourceCondition.Sync})

    def _get_supported_parameters(self) -> set[str] | None:
        return _CREATE_PROCESSING_JOB if self.resource.api_action == "createProcessingJob" else None

    def _eval_service_task(
        self,
        env: Environment,
        resource_runtime_part: ResourceRuntimePart,
        normalised_parameters: dict[str, Any],
        state_credentials: StateCredentials,  # noqa: ARG002
    ) -> None:
        sagemaker = scheduler_client("sagemaker", resource_runtime_part.region)
        response = sagemaker.create_processing_job(**normalised_parameters)
        response.pop("ResponseMetadata", None)
        env.stack.append(response)

    def _build_sync_resolver(
        self,
        env: Environment,
        resource_runtime_part: ResourceRuntimePart,
        normalised_parameters: dict[str, Any],
        state_credentials: StateCredentials,  # noqa: ARG002
    ) -> Waiting:
        env.stack.pop()
        sagemaker = scheduler_client("sagemaker", resource_runtime_part.region)
        job = {"ProcessingJobName": normalised_parameters["ProcessingJobName"]}

        def look() -> Any | None:
            found = sagemaker.describe_processing_job(**job)
            found.pop("ResponseMetadata", None)
            status = found["ProcessingJobStatus"]
            if status not in ("Completed", "Failed", "Stopped"):
                return None
            # Moments are milliseconds in what a task returns.
            described = json.dumps(found, default=lambda moment: int(moment.timestamp() * 1000))
            if status != "Completed":
                raise FailureEventException(
                    self._failure(env, StatesErrorName(StatesErrorNameType.StatesTaskFailed), described)
                )
            return json.loads(described)

        return Waiting(look, lambda: sagemaker.stop_processing_job(**job))

    def _from_error(self, env: Environment, ex: Exception) -> FailureEvent:
        if isinstance(ex, ClientError):
            error = ex.response["Error"]
            return self._failure(env, CustomErrorName(f"SageMaker.{error['Code']}Exception"), error["Message"])
        return super()._from_error(env=env, ex=ex)

    def _failure(self, env: Environment, error: ErrorName, cause: str) -> FailureEvent:
        details = TaskFailedEventDetails(
            error=error.error_name,
            cause=cause,
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
        )
        return FailureEvent(
            env=env,
            error_name=error,
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )


_TASKS: dict[str, type[state_task_service_callback.StateTaskServiceCallback]] = {
    "batch": BatchTask,
    "sagemaker": SageMakerTask,
}


def task_for(
    as_shipped: Callable[..., state_task_service.StateTaskService], service_name: str
) -> state_task_service.StateTaskService:
    """The task of a service: ours where its scheduler's endpoint is named."""
    ours = _TASKS.get(service_name)
    if ours and os.environ.get(f"AWS_ENDPOINT_URL_{service_name.upper()}"):
        return ours()
    return as_shipped(service_name)


def apply_patch() -> None:
    """Replace tasks whose scheduler has an endpoint; others fail, as shipped."""
    shipped = state_task_factory.state_task_service_for
    Patch(state_task_factory, "state_task_service_for", partial(task_for, shipped)).apply()
    if os.environ.get("AWS_ENDPOINT_URL_BATCH"):
        Patch(state_task_service_batch, "boto_client_for", scheduler_client).apply()
