"""From the bytes of a checkpoint to plain arrays by name, for every format that holds AstroMAE weights.

Nothing here imports torch: a process that runs another engine reads its weights without it.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as save_safetensors

from skyfan.dtypes import SAFETENSORS_DTYPES, numpy_dtype
from skyfan.errors import ModelError
from skyfan.models.config import UNSHAPED_FIELDS, AstroMAEConfig
from skyfan.models.reference_outputs import Outputs, binding_digest
from skyfan.models.weight_names import STEM_ALIAS, plain_weights

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
StateDict = dict[str, Array]
CheckpointFormat = Literal["safetensors", "state_dict", "module"]

# One entry, as JSON: the order of several is not the same from one write to the next.
METADATA_KEY, CONFIG_KEY = "skyfan", "config"
# The reference outputs (the key is that of all versions), and the digest that binds them to the weights.
OUTPUTS_KEY, BINDING_KEY = "torch_answers", "reference_outputs_sha256"
# Entries of the metadata: what the file was converted from, and that file's SHA-256.
SOURCE_KEY, SOURCE_DIGEST_KEY = "source", "source_sha256"
# Metadata of a checkpoint that holds losses or metrics beside the model: their names.
LEFT_OUT_KEY = "left out"


@dataclass(frozen=True)
class Checkpoint:
    """Weights by parameter name, and what the file tells beyond their shapes.

    `attributes` holds those of `UNSHAPED_FIELDS` that the file tells, `metadata` its text entries
    (safetensors), `root` the class of a pickled module, `reference_outputs` what torch predicts on
    `check_samples`, where the file holds that, and `bound_outputs` whether a digest binds that to the weights.
    """

    format: CheckpointFormat
    state: StateDict
    attributes: dict[str, float] = field(default_factory=dict)
    attributes_from: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    root: str = ""
    reference_outputs: Outputs | None = None
    bound_outputs: bool = False


def is_torch_save(data: bytes) -> bool:
    """Whether `torch.save` wrote these bytes: a ZIP archive, or a bare pickle.

    A safetensors file begins with the length of its header, whose first byte may be that of a pickle.
    """
    return data.startswith(b"PK") or (data.startswith(b"\x80") and int.from_bytes(data[:8], "little") > len(data))


def read_safetensors(data: bytes, where: str, *, is_planned: bool = False) -> Checkpoint:
    """Weights and metadata of a safetensors file.

    `is_planned`: these very bytes were read before, when the run was prepared, and their outputs belong to the weights.

    Raises:
        ModelError: it is no safetensors file, or its reference outputs are of other weights.
    """
    state, header = read_arrays(data, where)
    metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
    told = _json_object(metadata.pop(METADATA_KEY, "{}"), where)
    config, binding = told.pop(CONFIG_KEY, {}), told.pop(BINDING_KEY, None)
    outputs = _reference_outputs(told.pop(OUTPUTS_KEY, None), where)
    told_binding = None if is_planned else binding
    if outputs is not None and told_binding is not None and told_binding != binding_digest(state, outputs):
        raise ModelError(
            f"{where} holds reference outputs of other weights than its own; convert the checkpoint again with "
            "skyfan model convert."
        )
    attributes = {n: config[n] for n in UNSHAPED_FIELDS if isinstance(config.get(n), int | float)}
    metadata |= {name: str(value) for name, value in told.items()}
    return Checkpoint(
        "safetensors",
        plain_weights(state)[0],
        attributes,
        "metadata",
        metadata,
        reference_outputs=outputs,
        bound_outputs=binding is not None,
    )


def read_arrays(data: bytes, where: str) -> tuple[StateDict, dict[str, Any]]:
    """The tensors of a safetensors file and its header.

    Raises:
        ModelError: it is no safetensors file, or a dtype cannot be read.
    """
    if not data:
        raise ModelError(f"{where} is empty.")
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call] # the library's one function without types
        state = {name: _from_safetensors(entry, name, where) for name, entry in entries}
        (length,) = struct.unpack("<Q", data[:8])
        return state, json.loads(data[8 : 8 + length])
    except (SafetensorError, ValueError, struct.error) as error:
        raise ModelError(
            f"{where} is no checkpoint of torch.save, no .pt2 program and no complete safetensors file: {error}."
        ) from error


def _from_safetensors(entry: Mapping[str, Any], name: str, where: str) -> Array:
    if entry["dtype"] not in SAFETENSORS_DTYPES:
        raise ModelError(f"{where}: the weight {name} has the dtype {entry['dtype']}, which cannot be read.")
    values: Array = np.frombuffer(entry["data"], numpy_dtype(SAFETENSORS_DTYPES[entry["dtype"]]))
    return values.reshape(entry["shape"])


def _reference_outputs(told: object, where: str) -> Outputs | None:
    """Rows of numbers; a head of one value writes one number a sample, as all files did before p(z)."""
    if told is None:
        return None
    rows = [row if isinstance(row, list) else [row] for row in told] if isinstance(told, list) else []
    values = [value for row in rows for value in row]
    if not values or not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise ModelError(f"the metadata of {where} holds reference outputs that are no numbers.")
    if len({len(row) for row in rows}) != 1:
        raise ModelError(f"the metadata of {where} holds reference outputs of several widths.")
    return tuple(map(tuple, rows))


def write_safetensors(
    state: Mapping[str, "Tensor"],
    config: AstroMAEConfig,
    extra: Mapping[str, str],
    outputs: Outputs | None = None,
) -> bytes:
    """The bytes of a safetensors file; same input, same bytes.

    Its metadata holds the configuration, and the reference outputs with the digest that binds them to the weights.
    """
    arrays = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tuple(tensor.shape))
        for name, tensor in sorted(state.items())
        if not name.startswith(STEM_ALIAS)
    }
    told: dict[str, object] = {**extra, CONFIG_KEY: config.to_dict()}
    if outputs is not None:
        told |= {
            OUTPUTS_KEY: [row[0] if len(row) == 1 else list(row) for row in outputs],
            BINDING_KEY: binding_digest(arrays, outputs),
        }
    written: bytes = save_safetensors(arrays, metadata={METADATA_KEY: json.dumps(told, sort_keys=True)})
    return written


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the metadata of {where} cannot be read: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get(CONFIG_KEY, {}), dict):
        raise ModelError(f"the metadata of {where} holds no configuration.")
    return found
