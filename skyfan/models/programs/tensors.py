"""The stored tensors of a program: sizes, strides and offsets held against the bytes that are there.

torch takes a tensor's description and lays it over the bytes. So each is checked to lie within them, to have no more
values than they hold, and to have the one dtype that all tensors over those bytes have; bytes of booleans, of which
only 0 and 1 are defined, are made 0 and 1.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skyfan.dtypes import numpy_dtype
from skyfan.models.programs import fields
from skyfan.models.programs.archive import ProgramArchive
from skyfan.models.programs.fields import mapping, refuse, shown
from skyfan.models.programs.graph import TensorMeta, Weight
from skyfan.models.programs.reading import DTYPES, read_meta

FOLDERS = ("data/weights/", "data/constants/")
CONFIGS = ("model_weights_config.json", "model_constants_config.json")
_RAW_TENSOR = re.compile(r"(weight|tensor)_\d{1,6}")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and the archive's entry whose bytes it lies over."""

    meta: TensorMeta
    entry: str


def read_tensors(
    weights: Sequence[Weight], archive: ProgramArchive
) -> tuple[dict[str, StoredTensor], dict[str, bytes]]:
    """The tensor of every weight by its value in the graph, and the bytes of the entries that they lie over.

    Raises `Refusal` for pickled tensors, used or not, and for what does not fit.
    """
    found = _table(archive)
    contents: dict[str, bytes] = {}
    dtypes: dict[str, int] = {}
    for weight in weights:
        if weight.name not in found:
            refuse(f"is damaged: the weight {shown(weight.name)} is not stored")
        entry, dtype = found[weight.name].entry, found[weight.name].meta.dtype
        if dtypes.setdefault(entry, dtype) != dtype:
            refuse(f"reads the bytes of {entry} as two dtypes")
        if entry not in contents:
            data = archive.read(entry)
            contents[entry] = (np.frombuffer(data, np.uint8) != 0).tobytes() if DTYPES[dtype] == "bool" else data
    return {weight.value: found[weight.name] for weight in weights}, contents


def _table(archive: ProgramArchive) -> dict[str, StoredTensor]:
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
    item_bytes = numpy_dtype(DTYPES[meta.dtype]).itemsize
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
