"""Render the state machine's templates, as Terraform's `templatefile` renders them.

The templates are Amazon States Language (https://states-language.net) with `${name}` in place of what differs
between deployments. Terraform and Python read the same files, so that what is tested is what is deployed.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyfan.aws_limits import LAMBDA_TIMEOUT_S
from skyfan.errors import LocationError, SkyfanError

FOLDER = Path(__file__).parents[2] / "stepfunctions"
TEMPLATE = FOLDER / "pipeline.asl.json"
_TASK_TIMEOUT_S = LAMBDA_TIMEOUT_S + 90
_RUN_TIMEOUT_S = 86_400
# Of the run's time, what is left to plan before an array and to merge after it (infra/terraform/workflow.tf).
_ARRAY_TIMEOUT_S = _RUN_TIMEOUT_S - 3_600
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Variables:
    """What the template leaves open. A task's time-out lies above its function's, which should strike first.

    The defaults allow for functions at Lambda's time limit, and for 90 s of waiting for a free worker.
    """

    partitioner_arn: str
    executor_arn: str
    executor_torch_arn: str
    aggregator_arn: str
    partitioner_timeout_s: int = _TASK_TIMEOUT_S
    executor_timeout_s: int = _TASK_TIMEOUT_S
    aggregator_timeout_s: int = _TASK_TIMEOUT_S
    execution_timeout_s: int = _RUN_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Batch:
    """Ranks on AWS Batch beside Lambda: queues and job definitions, by ARN or name."""

    batch_queue_arn: str
    batch_job_arn: str
    batch_torch_job_arn: str
    batch_gpu_queue_arn: str = ""
    batch_gpu_job_arn: str = ""
    batch_log_group: str = "/aws/batch/job"
    batch_timeout_s: int = _ARRAY_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class SageMaker:
    """Ranks on SageMaker beside Lambda."""

    sagemaker_role_arn: str
    sagemaker_image_uri: str
    sagemaker_instance_type: str = "ml.c5.4xlarge"
    sagemaker_runtime_s: int = _ARRAY_TIMEOUT_S - 600
    sagemaker_timeout_s: int = _ARRAY_TIMEOUT_S
    log_level: str = "info"


def render(
    variables: Variables, template: Path = TEMPLATE, *, batch: Batch | None = None, sagemaker: SageMaker | None = None
) -> str:
    """The definition as JSON text, ready for `create_state_machine`.

    Raises:
        LocationError: the template is not there (an installed package does not carry it).
        SkyfanError: the template names a variable that `variables` lacks, or the other way round.
    """
    base = _filled(template, asdict(variables))
    parts = []
    if batch:
        parts.append(_filled(FOLDER / "batch.asl.json", asdict(batch)))
    if sagemaker:
        parts.append(_filled(FOLDER / "sagemaker.asl.json", asdict(sagemaker)))
    return _with(base, parts) if parts else base


def _with(base: str, parts: list[str]) -> str:
    """The pipeline with a choice of what computes the ranks, as infra/terraform/workflow.tf merges it."""
    machine, added = json.loads(base), [json.loads(part) for part in parts]
    states = machine["States"]
    states["Convert"]["Next"] = "WhichCompute"
    states["WhichCompute"] = {
        "Type": "Choice",
        "Choices": [choice for part in added for choice in part["Choices"]],
        "Default": "WhichExecutor",
    }
    for part in added:
        states |= part["States"]
    return json.dumps(machine)


def _filled(template: Path, values: dict[str, Any]) -> str:
    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise LocationError(
            f"The state machine's template {template} cannot be read ({error.strerror}); "
            "run from a checkout of the repository or name the file."
        ) from error
    wanted = set(_PLACEHOLDER.findall(text))
    if wanted != values.keys():
        raise SkyfanError(f"{template.name} and its variables differ in {', '.join(sorted(wanted ^ values.keys()))}.")
    rendered = _PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)
    json.loads(rendered)
    return rendered
