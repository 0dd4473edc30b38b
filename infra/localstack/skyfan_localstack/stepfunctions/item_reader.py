"""ItemReader: lists more than 1,000 objects, reads JSON Lines, and fails with a name that can be caught.

As shipped, LocalStack takes the first page of ListObjectsV2, refuses `"InputType": "JSONL"`, and turns a missing
object into States.Runtime. AWS, as of 2026-11:
- "ItemReader (Map)", https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
- States.ItemReaderFailed, "Handling errors in Step Functions workflows",
  https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from localstack.services.stepfunctions.asl.component.common.error_name.failure_event import FailureEventException
from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.item_reader import (
    item_reader_decl,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.item_reader.reader_config.input_type import (  # noqa: E501
    InputType,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.item_reader.resource_eval.resource_eval_s3 import (  # noqa: E501
    ResourceEvalS3,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.item_reader.resource_eval.resource_output_transformer.resource_output_transformer_json import (  # noqa: E501
    ResourceOutputTransformerJson,
)
from localstack.services.stepfunctions.asl.eval.environment import Environment
from localstack.utils.patch import Patch

from skyfan_localstack.stepfunctions.failures import map_run_failure


class JsonLines(Enum):
    """Beside LocalStack's own two input types, whose enumeration is closed."""

    JSONL = "JSONL"


class JsonLinesTransformer(ResourceOutputTransformerJson):
    """One JSON value a line; blank lines are skipped."""

    def _eval_body(self, env: Environment) -> None:
        config, text = env.stack.pop(), env.stack.pop()
        env.stack.append("[" + ",".join(line for line in text.splitlines() if line.strip()) + "]")
        env.stack.append(config)
        super()._eval_body(env)


def _list_all_objects(env: Environment, resource_runtime_part: Any, state_credentials: Any) -> None:
    client = ResourceEvalS3._get_s3_client(resource_runtime_part, state_credentials)
    pages = client.get_paginator("list_objects_v2").paginate(**env.stack.pop())
    env.stack.append([entry for page in pages for entry in page.get("Contents", [])])


def _with_json_lines(as_shipped: Callable[[InputType, str], None]) -> Callable[[InputType, str], None]:
    def create(self: InputType, input_type: str) -> None:
        if input_type == JsonLines.JSONL.value:
            self.input_type_value = JsonLines.JSONL
        else:
            as_shipped(self, input_type)

    return create


def _with_json_lines_transformer(as_shipped: Callable[[InputType], Any]) -> Callable[[InputType], Any]:
    def choose(input_type: InputType) -> Any:
        if input_type.input_type_value is JsonLines.JSONL:
            return JsonLinesTransformer()
        return as_shipped(input_type)

    return choose


def _failing_by_name(as_shipped: Callable[..., None]) -> Callable[..., None]:
    def evaluate(self: item_reader_decl.ItemReader, env: Environment) -> None:
        try:
            as_shipped(self, env)
        except FailureEventException:
            raise
        except Exception as error:
            raise map_run_failure(env, StatesErrorNameType.StatesItemReaderFailed, str(error)) from error

    return evaluate


def apply_patch() -> None:
    """Extend reading and listing."""
    reader = item_reader_decl.ItemReader
    Patch(ResourceEvalS3, "_handle_list_objects_v2", staticmethod(_list_all_objects)).apply()
    Patch(InputType, "__init__", _with_json_lines(InputType.__init__)).apply()
    choose = _with_json_lines_transformer(item_reader_decl.resource_output_transformer_for)
    Patch(item_reader_decl, "resource_output_transformer_for", choose).apply()
    Patch(reader, "_eval_body", _failing_by_name(reader._eval_body)).apply()
