"""Protobuf messages to pydantic types and back, field by field of the same name."""

from typing import TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from skyfan.errors import BadInput

M = TypeVar("M", bound=Message)
B = TypeVar("B", bound=BaseModel)


def to_model(message: Message, kind: type[B]) -> B:
    """The pydantic value of a message; optional fields that are not set become None."""
    content = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and field.message_type is None:
            content.setdefault(field.name, None)  # else the type's own default would stand for what was None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{kind.__name__}: {first_problem(error)}") from error


def to_message(value: BaseModel, kind: type[M]) -> M:
    """The message of a pydantic value."""
    return ParseDict(value.model_dump(mode="json", exclude_none=True), kind())


def first_problem(error: ValidationError) -> str:
    """One sentence of a validation error: where, and what is wrong there."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {problem['msg']}{more}."
