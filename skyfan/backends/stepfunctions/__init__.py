"""Targets `localstack` and `aws`: one execution of the deployed Step Functions pipeline is the whole fan-out."""

from skyfan.backends.stepfunctions.access import (
    AWS,
    LOCALSTACK,
    STEP_FUNCTIONS_TARGETS,
    Access,
    open_access,
    prepare_environment,
)
from skyfan.backends.stepfunctions.machine import DEFAULT_STATE_MACHINE, Machine, find_machine
from skyfan.backends.stepfunctions.run import Execution, console_url, run_on_stepfunctions, stop

__all__ = [
    "AWS",
    "DEFAULT_STATE_MACHINE",
    "LOCALSTACK",
    "STEP_FUNCTIONS_TARGETS",
    "Access",
    "Execution",
    "Machine",
    "console_url",
    "find_machine",
    "open_access",
    "prepare_environment",
    "run_on_stepfunctions",
    "stop",
]
