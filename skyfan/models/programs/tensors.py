"""The stored tensors of a program: sizes, strides and offsets held against the bytes that are there.

torch takes a tensor's description and lays it over the bytes. So each is checked to lie within them, to have no more
values than they hold, and to have the one dtype that all tensors over those bytes have; bytes of booleans, of which
only 0 and 1 are defined, are made 0 and 1.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyfan.models.programs import fields
from skyfan.models.programs.archive import ProgramArchive
from skyfan.models.programs.fields import mapping, refuse, shown
from skyfan.models.programs.graph import TensorMeta, Weight
from skyfan.models.programs.reading import DTYPES, read_meta

FOLDERS = ("data/weights/", "data/constants/")
CONFIGS = ("model_weights_config.json", "model_constants_config.json")
_RAW_TENSOR = re.compile(r"(weight|tensor)_\d{1,6}")
_ITEM_BYTES = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8}
_ITEM_BYTES |= {"float16": 2, "float32": 4, "float64": 8, "bool": 1, "bfloat16": 2}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the archive's entry whose bytes it lies over."""

    meta: TensorMeta
    entry: str


def read_tensors(archive: ProgramArchive) -> dict[str, StoredTensor]:
    """Every stored tensor by its name in the file; raises `Refusal` for pickled ones and for what does not fit."""
    found: dict[str, StoredTensor] = {}
    for folder, config in zip(FOLDERS, CONFIGS, strict=True):
        table = mapping(fields.parse(archive.read(f"{folder}{config}"), "table of tensors"), "the table of tensors")
        for name, entry in mapping(table.get("config"), "the table of tensors").items():
            held = mapping(entry, "a stored tensor")
            path = held.get("path_name")
            if not isinstance(path, str) or held.get("use_pickle") is not False or not _RAW_TENSOR.fullmatch(path):
                refuse(f"holds {shown(name)} as a pickled object, which is not loaded; only plain tensors are")
            found[name] = _stored(shown(name), read_meta(held.get("tensor_meta")), f"{folder}{path}", archive)
    return found


def _stored(name: str, meta: TensorMeta, entry: str, archive: ProgramArchive) -> StoredTensor:
    stored_bytes = archive.sizes.get(f"{archive.folder}{entry}")
    if stored_bytes is None:
        refuse(f"is damaged: the entry {entry} of {name} cannot be read")
    item_bytes = _ITEM_BYTES[DTYPES[meta.dtype]]
    sizes, strides, (offset,) = (_whole(name, held) for held in (meta.sizes, meta.strides, (meta.offset,)))
    values = math.prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    held = stored_bytes // item_bytes
    if stored_bytes % item_bytes or values > held or (values and last >= held) or offset > held:
        refuse(f"gives {name} the sizes {list(sizes)}, strides {list(strides)} and offset {offset}, "
               f"beyond its {held:,} values")  # fmt: skip
    return StoredTensor(meta, entry)


def _whole(name: str, sizes: Sequence[object]) -> list[int]:
    return [size if isinstance(size, int) else refuse(f"gives {name} a symbolic size") for size in sizes]


def payload(weights: Sequence[Weight], stored: Mapping[str, StoredTensor], archive: ProgramArchive) -> dict[str, bytes]:
    """The entries of the new archive: bytes of the weights that the graph uses, and their description."""
    entries: dict[str, bytes] = {}
    places: dict[str, tuple[str, int]] = {}
    table: dict[str, Any] = {}
    for weight in weights:
        if weight.name not in stored:
            refuse(f"is damaged: the weight {shown(weight.name)} is not stored")
        tensor = stored[weight.name]
        dtype = tensor.meta.dtype
        path, first_dtype = places.setdefault(tensor.entry, (f"weight_{len(places)}", dtype))
        if first_dtype != dtype:
            refuse(f"reads the bytes of {tensor.entry} as two dtypes")
        if f"{FOLDERS[0]}{path}" not in entries:
            entries[f"{FOLDERS[0]}{path}"] = _bytes(archive.read(tensor.entry), dtype)
        description = {"path_name": path, "is_param": weight.trained, "use_pickle": False}
        table[weight.value] = {**description, "tensor_meta": tensor.meta.json()}
    entries[f"{FOLDERS[0]}{CONFIGS[0]}"] = _json({"config": table})
    entries[f"{FOLDERS[1]}{CONFIGS[1]}"] = _json({"config": {}})
    return entries


def _bytes(data: bytes, dtype: int) -> bytes:
    return (np.frombuffer(data, np.uint8) != 0).tobytes() if DTYPES[dtype] == "bool" else data


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
