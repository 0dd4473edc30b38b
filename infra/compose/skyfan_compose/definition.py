"""Render the state machine's template, as Terraform's `templatefile` renders it.

The template is Amazon States Language (https://states-language.net) with `${name}` in place of what differs
between deployments. Terraform and Python read the same file, so that what is tested is what is deployed.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyfan.aws_limits import LAMBDA_TIMEOUT_S
from skyfan.errors import LocationError, SkyfanError

TEMPLATE = Path(__file__).parents[2] / "stepfunctions" / "pipeline.asl.json"
_TASK_TIMEOUT_S = LAMBDA_TIMEOUT_S + 90
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
    execution_timeout_s: int = 86_400


def render(variables: Variables, template: Path = TEMPLATE) -> str:
    """The definition as JSON text, ready for `create_state_machine`.

    Raises:
        LocationError: the template is not there (an installed package does not carry it).
        SkyfanError: the template names a variable that `variables` lacks, or the other way round.
    """
    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise LocationError(
            f"The state machine's template {template} cannot be read ({error.strerror}); "
            "run from a checkout of the repository or name the file."
        ) from error
    values: dict[str, Any] = asdict(variables)
    wanted = set(_PLACEHOLDER.findall(text))
    if wanted != values.keys():
        raise SkyfanError(f"{template.name} and its variables differ in {', '.join(sorted(wanted ^ values.keys()))}.")
    rendered = _PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)
    json.loads(rendered)
    return rendered
