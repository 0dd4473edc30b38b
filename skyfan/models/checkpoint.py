"""From the bytes of a checkpoint to plain arrays by name, for every format that holds AstroMAE weights.

Nothing here imports torch: a process that runs another engine reads its weights without it.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as save_safetensors

from skyfan.dtypes import numpy_dtype
from skyfan.errors import ModelError
from skyfan.formats.torch._unpickle import UNTYPED, TensorRef
from skyfan.models._inert import Inert, InertFile, load_inert
from skyfan.models.config import UNSHAPED_FIELDS, AstroMAEConfig
from skyfan.models.reference_outputs import binding_digest

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
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
# Published checkpoints register this layer twice; files of ours hold it once, under the second name.
STEM_ALIAS = "inception_model.conv2d_init."
STEM = "inception_model.vis_inception.0."
# Names under which training scripts keep the weights beside the optimiser's state.
_NESTED_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "ema")
_MAX_NESTING = 4
_MAX_MODULES = 100_000


@dataclass(frozen=True)
class Checkpoint:
    """Weights by parameter name, and what the file tells beyond their shapes.

    `attributes` holds those of `UNSHAPED_FIELDS` that the file tells, `metadata` its text entries
    (safetensors), `root` the class of a pickled module, `reference_outputs` what torch predicts on
    `check_samples`, where the file holds that.
    """

    format: CheckpointFormat
    state: StateDict
    attributes: dict[str, float] = field(default_factory=dict)
    attributes_from: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    root: str = ""
    reference_outputs: tuple[float, ...] | None = None


def read_safetensors(data: bytes, where: str) -> Checkpoint:
    """Weights and metadata of a safetensors file."""
    if not data:
        raise ModelError(f"{where} is empty.")
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call] # the library's one function without types
        state = {name: _from_safetensors(entry, name, where) for name, entry in entries}
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (SafetensorError, ValueError, struct.error) as error:
        raise ModelError(
            f"{where} is no checkpoint of torch.save, no .pt2 program and no complete safetensors file: {error}."
        ) from error
    metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
    told = _json_object(metadata.pop(METADATA_KEY, "{}"), where)
    config, binding = told.pop(CONFIG_KEY, {}), told.pop(BINDING_KEY, None)
    outputs = _reference_outputs(told.pop(OUTPUTS_KEY, None), where)
    if outputs is not None and binding is not None and binding != binding_digest(state, outputs):
        raise ModelError(
            f"{where} holds reference outputs of other weights than its own; convert the checkpoint again with "
            "skyfan model convert."
        )
    attributes = {n: config[n] for n in UNSHAPED_FIELDS if isinstance(config.get(n), int | float)}
    metadata |= {name: str(value) for name, value in told.items()}
    return Checkpoint("safetensors", _plain_names(state), attributes, "metadata", metadata, reference_outputs=outputs)


def _from_safetensors(entry: Mapping[str, Any], name: str, where: str) -> Array:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise ModelError(f"{where}: the weight {name} has the dtype {entry['dtype']}, which cannot be read.")
    values: Array = np.frombuffer(entry["data"], numpy_dtype(_SAFETENSORS_DTYPES[entry["dtype"]]))
    return values.reshape(entry["shape"])


def _reference_outputs(told: object, where: str) -> tuple[float, ...] | None:
    if told is None:
        return None
    if not isinstance(told, list) or not told or not all(isinstance(z, float) and math.isfinite(z) for z in told):
        raise ModelError(f"the metadata of {where} holds reference outputs that are no numbers.")
    return tuple(told)


def write_safetensors(
    state: Mapping[str, "Tensor"],
    config: AstroMAEConfig,
    extra: Mapping[str, str],
    outputs: Sequence[float] | None = None,
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
        told |= {OUTPUTS_KEY: list(outputs), BINDING_KEY: binding_digest(arrays, outputs)}
    written: bytes = save_safetensors(arrays, metadata={METADATA_KEY: json.dumps(told, sort_keys=True)})
    return written


def read_torch(data: bytes, where: str) -> Checkpoint:
    """Weights of a `torch.save` file: a state dict, one inside a training checkpoint, or a whole module."""
    file = load_inert(data, where)
    found = file.tree
    for _ in range(_MAX_NESTING):
        if isinstance(found, Inert) and isinstance(found.state.get("_modules"), dict):
            return _from_module(found, file)
        if not isinstance(found, Mapping):
            break
        if _looks_like_state_dict(found):
            return Checkpoint("state_dict", _plain_names(_to_arrays(found, file)))
        key = next((key for key in _NESTED_KEYS if key in found), None)
        if key is None:
            break
        found = found[key]
    if isinstance(found, Mapping):
        tensors = _to_arrays(found, file)
        if tensors:  # a state dict of one layer, or a dataset: its names say that it is no AstroMAE
            return Checkpoint("state_dict", _plain_names(tensors))
    held = found.path if isinstance(found, Inert) else f"a {type(found).__name__.removeprefix('Inert').lower()}"
    raise ModelError(
        f"{where} holds neither a state dict nor a module ({held}); save model.state_dict() or export the model "
        "with torch.export.save to a .pt2 file."
    )


def _to_arrays(found: Mapping[Any, Any], file: InertFile) -> StateDict:
    """The tensors among the values, each with memory of its own."""
    storages: dict[str, NDArray[np.uint8]] = {}
    state: StateDict = {}
    for name, reference in found.items():
        if isinstance(reference, TensorRef):
            key = reference.storage.key
            if key not in storages:
                storages[key] = np.frombuffer(file.storage(key), np.uint8)
            state[str(name)] = _to_array(reference, storages[key], f"{file.where}: the weight {name}")
    return state


def _to_array(reference: TensorRef, storage: NDArray[np.uint8], what: str) -> Array:
    dtype = numpy_dtype(reference.dtype)
    size, stride, offset = reference.shape, reference.stride, reference.offset
    if 0 in size:
        return np.empty(size, dtype)
    count = len(storage) // dtype.itemsize
    if reference.storage.dtype != UNTYPED:
        count = min(count, reference.storage.numel)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= count or math.prod(size) > count:
        raise ModelError(f"{what} has the shape {list(size)} but only {count} values are stored for it.")
    values = storage[: count * dtype.itemsize].view(dtype)[offset:]
    return np.lib.stride_tricks.as_strided(values, size, [step * dtype.itemsize for step in stride]).copy()


def _looks_like_state_dict(found: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, TensorRef) and "." in str(name) for name, value in found.items())


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ModelError(f"the metadata of {where} cannot be read: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get(CONFIG_KEY, {}), dict):
        raise ModelError(f"the metadata of {where} holds no configuration.")
    return found


def _plain_names(state: StateDict) -> StateDict:
    """Names without the prefixes of wrappers (`module.`, `_orig_mod.`), aliases dropped, float32 values."""
    for prefix in ("module.", "_orig_mod.", "model."):
        if state and all(name.startswith(prefix) for name in state):
            return _plain_names({name.removeprefix(prefix): value for name, value in state.items()})
    odd = next((name for name in state if not name.isprintable()), None)
    if odd is not None:
        raise ModelError(f"the file is damaged: it holds a weight with the name {odd!r}.")
    plain = dict(state)
    for name in [name for name in plain if name.startswith(STEM_ALIAS)]:
        alias = plain.pop(name)
        kept = plain.setdefault(STEM + name.removeprefix(STEM_ALIAS), alias)
        if not np.array_equal(kept, alias):
            raise ModelError(f"the weights hold two different versions of one layer: {name} and its alias.")
    return {name: v.astype(np.float32, copy=False) if _is_floating(v) else v for name, v in plain.items()}


def _is_floating(values: Array) -> bool:
    # The dtypes of ml_dtypes (bfloat16 and the 8-bit ones) are of kind V to numpy.
    return values.dtype.kind in "fV"


def _from_module(root: Inert, file: InertFile) -> Checkpoint:
    module = root
    for _ in range(_MAX_NESTING):
        if module.path.startswith("torch.nn.parallel."):
            wrapped = _part(module, "_modules").get("module")
            if not isinstance(wrapped, Inert):
                raise ModelError(f"{file.where} holds a {module.path} without a model in it.")
            module = wrapped
    state = _plain_names(_to_arrays(_collect(module, file.where), file))
    return Checkpoint("module", state, _module_attributes(module), "module", {}, module.path)


def _part(module: Inert, kind: str) -> dict[str, Any]:
    """`_parameters`, `_buffers` or `_modules` of a module."""
    found = module.state.get(kind)
    return found if isinstance(found, dict) else {}


def _collect(root: Inert, where: str) -> dict[str, TensorRef]:
    """The parameters and persistent buffers of a module and all below it, named as in `state_dict()`."""
    state: dict[str, TensorRef] = {}
    pending = [("", root)]
    for _ in range(_MAX_MODULES):
        if not pending:
            return state
        prefix, module = pending.pop()
        transient = module.state.get("_non_persistent_buffers_set")
        dropped = transient if isinstance(transient, set) else set()
        for name, value in [*_part(module, "_parameters").items(), *_part(module, "_buffers").items()]:
            if isinstance(value, TensorRef) and name not in dropped:
                state[f"{prefix}{name}"] = value
        for name, child in _part(module, "_modules").items():
            if isinstance(child, Inert):
                pending.append((f"{prefix}{name}.", child))
    raise ModelError(f"{where} holds a module of more than {_MAX_MODULES:,} parts.")


def _child(module: Inert, path: str) -> Inert | None:
    found: Any = module
    for name in path.split("."):
        found = _part(found, "_modules").get(name) if isinstance(found, Inert) else None
    return found if isinstance(found, Inert) else None


def _module_attributes(module: Inert) -> dict[str, float]:
    """The values of `UNSHAPED_FIELDS` as the layers of a pickled AstroMAE hold them."""
    places = {
        "num_heads": ("blocks.0.attn", "num_heads"),
        "norm_eps": ("blocks.0.norm1", "eps"),
        "fc_norm_eps": ("fc_norm", "eps"),
        "batch_norm_eps": ("blocks.0.PCM.1", "eps"),
    }
    found: dict[str, float] = {}
    for name, (path, attribute) in places.items():
        layer = _child(module, path)
        value = layer.state.get(attribute) if layer else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    _check_attention_scale(module, found)
    return found


def _check_attention_scale(module: Inert, found: Mapping[str, float]) -> None:
    attention = _child(module, "blocks.0.attn")
    qkv = _child(module, "blocks.0.attn.qkv")
    if attention is None or qkv is None or "num_heads" not in found:
        return
    weight = _part(qkv, "_parameters").get("weight")
    scale = attention.state.get("scale")
    if isinstance(weight, TensorRef) and isinstance(scale, float):
        usual = (weight.shape[0] / 3 / found["num_heads"]) ** -0.5
        if abs(scale - usual) > 1e-6 * usual:
            raise ModelError(f"the module scales its attention by {scale}, AstroMAE by {usual}; export it as .pt2.")
