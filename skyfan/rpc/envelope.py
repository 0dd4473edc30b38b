"""Requests and replies on the wire: an envelope that names its type and version, and holds the type's JSON.

The pydantic types of `skyfan.stages.messages` are the contract, over gRPC as on Lambda and in plan.json; a field is
added in one place. What protobuf would check, pydantic does, with bounds and a sentence.
"""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from skyfan.errors import BadInput
from skyfan.v1.types_pb2 import Envelope
from skyfan.validation import first_problem

WIRE_VERSION = 2

B = TypeVar("B", bound=BaseModel)


def pack(value: BaseModel) -> Envelope:
    """The envelope of a request or reply."""
    return Envelope(schema=_schema(type(value)), content=value.model_dump_json(by_alias=True).encode())


def unpack(envelope: Envelope, kind: type[B]) -> B:
    """The value in an envelope.

    Raises:
        BadInput: it holds another type or version, or a value that the type does not allow.
    """
    if envelope.schema != _schema(kind):
        raise BadInput(
            f"the message is {envelope.schema[:80]!r}, not {_schema(kind)!r}: use one version of Skyfan on both sides."
        )
    try:
        return kind.model_validate_json(envelope.content)
    except ValidationError as error:
        raise BadInput(f"{kind.__name__}: {first_problem(error)}") from error


def is_of(envelope: Envelope, kind: type[BaseModel]) -> bool:
    """Whether this is what the envelope holds."""
    return bool(envelope.schema == _schema(kind))


def _schema(kind: type[BaseModel]) -> str:
    return f"skyfan.{kind.__name__}/{WIRE_VERSION}"
