"""Reads the pickle of a `torch.save` file as data.

A pickle is a small program for a stack machine. `PickleMachine` follows the instructions that torch writes, on
values and stand-ins of its own; Python's unpickler is not used, because it recurses, hashes and allocates as the
file wants. Modules: `limits` (how much a pickle may ask for), `values` (stand-ins), `calls` and `tensors` (the calls
that are followed), `pickle_machine`, `scalars` and `objects` (the instructions), `loading` (`load_tree`, its errors).
"""

from skyfan.formats.torch.unpickler.limits import MAX_NAME_CHARACTERS, MAX_PICKLE_BYTES
from skyfan.formats.torch.unpickler.loading import load_tree
from skyfan.formats.torch.unpickler.values import (
    UNTYPED,
    InertObject,
    Opaque,
    OpaqueKey,
    TensorRef,
    describe,
)

__all__ = [
    "MAX_NAME_CHARACTERS",
    "MAX_PICKLE_BYTES",
    "UNTYPED",
    "InertObject",
    "Opaque",
    "OpaqueKey",
    "TensorRef",
    "describe",
    "load_tree",
]
