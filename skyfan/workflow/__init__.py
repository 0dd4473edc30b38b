"""What the Step Functions pipeline and the services agree on: the input, the events, the error names.

The state machine itself is `infra/stepfunctions/pipeline.asl.json`; docs/step-functions.md is the reference.
"""

from skyfan.workflow.asl import Variables, render
from skyfan.workflow.failures import lambda_error, lambda_message
from skyfan.workflow.request import RunRequest, parse_request

__all__ = ["RunRequest", "Variables", "lambda_error", "lambda_message", "parse_request", "render"]
