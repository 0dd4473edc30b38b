"""Lambda tasks: a role is assumed once in five minutes, and not for every task.

Nothing that AWS documents: as shipped, LocalStack assumes the state machine's role and builds a boto client for
every single task, which costs more than the rest of a small task together.
"""

import threading
import time
from typing import Any

from localstack.services.stepfunctions.asl.component.state.state_execution.state_task import lambda_eval_utils
from localstack.services.stepfunctions.asl.component.state.state_execution.state_task.credentials import (
    StateCredentials,
)
from localstack.services.stepfunctions.asl.utils.boto_client import boto_client_for
from localstack.utils.patch import Patch

_KEEP_S = 300.0  # well below the hour for which a role is assumed
_LOCK = threading.Lock()
_CLIENTS: dict[tuple[str, str, str], tuple[float, Any]] = {}


def remembered_client(service: str, region: str, state_credentials: StateCredentials) -> Any:
    """As `boto_client_for`; boto's clients may be shared between threads."""
    key, now = (service, region, state_credentials.role_arn), time.monotonic()
    with _LOCK:
        made_at, client = _CLIENTS.get(key, (-_KEEP_S, None))
        if client is None or now - made_at >= _KEEP_S:
            client = boto_client_for(service=service, region=region, state_credentials=state_credentials)
            _CLIENTS[key] = (now, client)
        return client


def apply_patch() -> None:
    """Share clients between tasks."""
    Patch(lambda_eval_utils, "boto_client_for", remembered_client).apply()
