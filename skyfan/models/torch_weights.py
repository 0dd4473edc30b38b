"""From the tensor references of a `torch.save` file to arrays, in memory that the file's own size bounds."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.dtypes import numpy_dtype
from skyfan.errors import ModelError
from skyfan.formats.torch.unpickler import MAX_NAME_CHARACTERS, UNTYPED, InertObject, TensorRef
from skyfan.models._inert import InertFile

Array = NDArray[Any]

# Tied weights are there under two names; a few bytes of names must not unfold to gigabytes of copies.
_MAX_UNFOLDING = 4
_MAX_MEMBERS = 1_000_000


def to_arrays(found: Mapping[Any, Any], file: InertFile) -> dict[str, Array]:
    """The tensors among the values, each with memory of its own.

    Raises:
        ModelError: a tensor reaches beyond its storage, or together they are far larger than the file.
    """
    references = {str(name): value for name, value in found.items() if isinstance(value, TensorRef)}
    unfolded_bytes = sum(_size_bytes(reference) for reference in references.values())
    if unfolded_bytes > _MAX_UNFOLDING * file.size_bytes:
        raise ModelError(
            f"{file.where} is damaged: its weights would be {unfolded_bytes} bytes, the whole file has "
            f"{file.size_bytes}."
        )
    storages: dict[str, NDArray[np.uint8]] = {}
    for key in {reference.storage.key for reference in references.values()}:
        storages[key] = np.frombuffer(file.storage(key), np.uint8)
    return {
        name: _to_array(reference, storages[reference.storage.key], f"{file.where}: the weight {name!r}")
        for name, reference in references.items()
    }


def _size_bytes(reference: TensorRef) -> int:
    """Bytes of the values; dimensions of size 0 count as 1, so that the others of an empty tensor are bounded too."""
    return math.prod(max(size, 1) for size in reference.shape) * numpy_dtype(reference.dtype).itemsize


def _to_array(reference: TensorRef, storage: NDArray[np.uint8], what: str) -> Array:
    dtype = numpy_dtype(reference.dtype)
    size, offset = reference.shape, reference.offset
    if 0 in size:
        return np.empty(size, dtype)
    # The stride of a dimension of one element is never used, and may be anything.
    stride = tuple(step if n > 1 else 0 for n, step in zip(size, reference.stride, strict=True))
    count = len(storage) // dtype.itemsize
    if reference.storage.dtype != UNTYPED:
        count = min(count, reference.storage.numel)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= count or math.prod(size) > count:
        raise ModelError(f"{what} has the shape {list(size)} but only {count} values are stored for it.")
    values = storage[: count * dtype.itemsize].view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(values, size, [step * dtype.itemsize for step in stride]).copy()


def module_part(module: InertObject, kind: str) -> dict[str, Any]:
    """`_parameters`, `_buffers` or `_modules` of a pickled module."""
    found = module.state.get(kind)
    return found if isinstance(found, dict) else {}


def module_weights(root: InertObject, where: str) -> dict[str, TensorRef]:
    """The parameters and persistent buffers of a module and all below it, named as in `state_dict()`.

    Raises:
        ModelError: it has too many parts, or it is part of itself.
    """
    weights: dict[str, TensorRef] = {}
    pending = [("", root)]
    left = _MAX_MEMBERS
    while pending:
        prefix, module = pending.pop()
        parts = {kind: module_part(module, kind) for kind in ("_parameters", "_buffers", "_modules")}
        left -= 1 + sum(map(len, parts.values()))
        if left < 0 or len(prefix) > MAX_NAME_CHARACTERS:
            raise ModelError(f"{where} holds a module of too many parts, or one that is part of itself.")
        weights |= dict(_kept(prefix, module, (*parts["_parameters"].items(), *parts["_buffers"].items())))
        pending += [(f"{prefix}{name}.", child) for name, child in parts["_modules"].items()
                    if isinstance(child, InertObject)]  # fmt: skip
    return weights


def _kept(prefix: str, module: InertObject, members: Iterable[tuple[Any, Any]]) -> Iterable[tuple[str, TensorRef]]:
    transient = module.state.get("_non_persistent_buffers_set")
    dropped = transient if isinstance(transient, set) else set()
    for name, value in members:
        if isinstance(value, TensorRef) and name not in dropped:
            yield f"{prefix}{name}", value
