"""Batch tasks: their client talks to the Batch that BATCH_ENDPOINT_URL names.

LocalStack's open core evaluates `batch:submitJob.sync` and has no Batch behind it.
"""

import os
from typing import Any

import boto3
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.credentials import (
    StateCredentials,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_batch,
)
from localstack.utils.patch import Patch

ENDPOINT_VARIABLE = "BATCH_ENDPOINT_URL"


def batch_client(service: str, region: str, state_credentials: StateCredentials) -> Any:  # noqa: ARG001
    """A client of the emulated Batch, which knows no credentials (the arguments are those of `boto_client_for`)."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=os.environ[ENDPOINT_VARIABLE],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 (a placeholder: nobody checks it)
    )


def apply_patch() -> None:
    """Replace the client where an endpoint is named; else Batch tasks fail, as shipped."""
    if os.environ.get(ENDPOINT_VARIABLE):
        Patch(state_task_service_batch, "boto_client_for", batch_client).apply()
