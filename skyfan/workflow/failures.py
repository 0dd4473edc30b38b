"""Skyfan's errors as Step Functions sees them.

A Python function's error name in Step Functions is the class name of the exception that left the handler
("Error handling in Step Functions", https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html,
read 2026-11).
"""

from skyfan.errors import SkyfanError


def lambda_error(error: SkyfanError) -> Exception:
    """An exception whose class is named `error.error_name()`, to be raised from a Lambda handler.

    `DatasetError("…")` leaves as `SkyfanDatasetError`, which the state machine does not retry.
    """
    kind: type[Exception] = type(error.error_name(), (Exception,), {})
    return kind(str(error))
