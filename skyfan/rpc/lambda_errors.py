"""Skyfan's errors as Step Functions sees them.

A Python function's error name in Step Functions is the class name of the exception that left the handler
("Error handling in Step Functions", https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html,
as of 2026-11).
"""

import json

from skyfan.errors import SkyfanError


def lambda_error(error: SkyfanError) -> Exception:
    """An exception whose class is named `error.error_name()`, to be raised from a Lambda handler.

    `DatasetError("…")` leaves as `SkyfanDatasetError`, which the state machine does not retry.
    """
    kind: type[Exception] = type(error.error_name(), (Exception,), {})
    return kind(str(error))


def lambda_message(cause: str) -> str:
    """The sentence in a failed Lambda task's cause, a JSON object; other causes are plain text and stay as they are."""
    try:
        content = json.loads(cause)
    except json.JSONDecodeError:
        return cause
    return str(content.get("errorMessage", cause)) if isinstance(content, dict) else cause
