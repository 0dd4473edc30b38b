"""A provider process that knows a schema and nothing else, attached to Terraform over its plugin protocol.

With it `terraform validate` and `terraform test` with `mock_provider` check a module against a provider version whose
binary is not at hand.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from .bindings import Block, Schema


def _protocol() -> tuple[Any, Any]:
    """Messages and service compiled from the .proto file beside this one."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    try:
        return grpc.protos_and_services("tfplugin5.proto")
    finally:
        sys.path.remove(folder)


_messages, _services = _protocol()

_SCALARS = {"str": "string", "Number": "number"}
_COLLECTIONS = {"Sequence": "list", "List": "list", "Mapping": "map"}


def _cty_type(hint: str) -> str:
    """Terraform's type for a hint of the bindings; whatever is deeper than a collection of scalars goes unchecked."""
    hint = hint.removeprefix("Optional[").removesuffix("]") if hint.startswith("Optional[") else hint
    if hint in _SCALARS:
        return json.dumps(_SCALARS[hint])
    if hint.startswith("Union[bool"):
        return '"bool"'
    outer, _, inner = hint.removesuffix("]").partition("[")
    element = inner.rpartition(", ")[2]
    if outer in _COLLECTIONS and element in _SCALARS:
        return json.dumps([_COLLECTIONS[outer], _SCALARS[element]])
    return '["map","string"]' if "StringMap" in hint else '"dynamic"'


def _message(block: Block) -> Any:
    message = _messages.Schema.Block()
    for name, (hint, required) in block.attributes.items():
        # Whether an optional argument is computed too is not in the bindings; that it may be hides nothing.
        message.attributes.add(
            name=name, type=_cty_type(hint).encode(), required=required, optional=not required, computed=not required
        )
    for name, hint in block.computed.items():
        message.attributes.add(name=name, type=_cty_type(hint).encode(), computed=True)
    for name, child in block.blocks.items():
        nesting = _messages.Schema.NestedBlock.SINGLE if name == "timeouts" else _messages.Schema.NestedBlock.LIST
        message.block_types.add(
            type_name=name,
            block=_message(child),
            nesting=nesting,
            min_items=int(child.required and name != "timeouts"),
            max_items=int(not child.many and name != "timeouts"),
        )
    return message


class _Provider(_services.ProviderServicer):  # type: ignore[misc,name-defined]  # compiled above
    def __init__(self, schema: Schema) -> None:
        self._answer = _messages.GetProviderSchema.Response(
            provider=_messages.Schema(block=_message(schema.provider)),
            resource_schemas={name: _messages.Schema(block=_message(b)) for name, b in schema.resources.items()},
            data_source_schemas={name: _messages.Schema(block=_message(b)) for name, b in schema.data_sources.items()},
        )

    # The protocol's own names.
    def GetSchema(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer

    def PrepareProviderConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _messages.PrepareProviderConfig.Response(prepared_config=request.config)

    def ValidateResourceTypeConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _messages.ValidateConfig.Response()

    def ValidateDataSourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _messages.ValidateConfig.Response()

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _messages.Empty()

    def Stop(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _messages.Empty()


@contextmanager
def serve(schema: Schema) -> Iterator[dict[str, str]]:
    """Serve the schema as hashicorp/aws; yields the environment that attaches a `terraform` to it."""
    with tempfile.TemporaryDirectory() as folder:
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
        _services.add_ProviderServicer_to_server(_Provider(schema), server)
        server.add_insecure_port(f"unix:{folder}/provider.sock")
        server.start()
        attachment = {
            "Protocol": "grpc",
            "ProtocolVersion": 5,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": {"Network": "unix", "String": f"{folder}/provider.sock"},
        }
        try:
            yield {"TF_REATTACH_PROVIDERS": json.dumps({"registry.terraform.io/hashicorp/aws": attachment})}
        finally:
            server.stop(grace=None).wait(timeout=5)
