"""The weights of a `torch.save` file: a part of its own, as a rank that loads a converted model reads no pickle."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skyfan.errors import ModelError
from skyfan.formats.torch.unpickler import InertObject, TensorRef, describe
from skyfan.models._inert import InertFile, load_inert
from skyfan.models.checkpoint import LEFT_OUT_KEY, Checkpoint, CheckpointFormat, StateDict, is_torch_save, read_arrays
from skyfan.models.exporting.command import EXPORT_COMMAND
from skyfan.models.torch_weights import module_part, module_weights, to_arrays
from skyfan.models.weight_names import plain_weights

# Names under which training scripts keep the weights beside the optimiser's state.
_NESTED_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "ema")
_MAX_NESTING = 4


def read_torch(data: bytes, where: str) -> Checkpoint:
    """Weights of a `torch.save` file: a state dict, one inside a training checkpoint, or a whole module."""
    file = load_inert(data, where)
    found = _weights_in(file)
    return _from_module(found, file) if isinstance(found, InertObject) else _of_torch("state_dict", found)


def raw_weights(data: bytes, where: str) -> StateDict:
    """The weights of any checkpoint format under the file's own names, whatever the architecture."""
    if not is_torch_save(data):
        return read_arrays(data, where)[0]
    file = load_inert(data, where)
    found = _weights_in(file)
    return to_arrays(module_weights(found, where), file) if isinstance(found, InertObject) else found


def _weights_in(file: InertFile) -> InertObject | StateDict:
    """The module in the file, or its tensors by name."""
    found = file.tree
    for _ in range(_MAX_NESTING):
        if isinstance(found, InertObject) and isinstance(found.state.get("_modules"), dict):
            return found
        if not isinstance(found, Mapping):
            break
        if _looks_like_state_dict(found):
            return to_arrays(found, file)
        key = next((key for key in _NESTED_KEYS if key in found), None)
        if key is None:
            break
        found = found[key]
    if isinstance(found, Mapping):
        tensors = to_arrays(found, file)
        if tensors:  # a state dict of one layer, or a dataset: its names say that it is no AstroMAE
            return tensors
    raise ModelError(
        f"{file.where} holds neither a state dict nor a module ({describe(found)}); save model.state_dict() and "
        f"run {EXPORT_COMMAND.format(weights='CKPT')}."
    )


def _looks_like_state_dict(found: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, TensorRef) and "." in str(name) for name, value in found.items())


def _from_module(root: InertObject, file: InertFile) -> Checkpoint:
    module = root
    for _ in range(_MAX_NESTING):
        if module.path.startswith("torch.nn.parallel."):
            wrapped = module_part(module, "_modules").get("module")
            if not isinstance(wrapped, InertObject):
                raise ModelError(f"{file.where} holds a {module.path} without a model in it.")
            module = wrapped
    weights = to_arrays(module_weights(module, file.where), file)
    return replace(
        _of_torch("module", weights), attributes=_module_attributes(module), attributes_from="module", root=module.path
    )


def _of_torch(kind: CheckpointFormat, weights: StateDict) -> Checkpoint:
    state, left_out = plain_weights(weights)
    return Checkpoint(kind, state, metadata={LEFT_OUT_KEY: ", ".join(left_out)} if left_out else {})


def _child(module: InertObject, path: str) -> InertObject | None:
    found: Any = module
    for name in path.split("."):
        found = module_part(found, "_modules").get(name) if isinstance(found, InertObject) else None
    return found if isinstance(found, InertObject) else None


def _module_attributes(module: InertObject) -> dict[str, float]:
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


def _check_attention_scale(module: InertObject, found: Mapping[str, float]) -> None:
    attention = _child(module, "blocks.0.attn")
    qkv = _child(module, "blocks.0.attn.qkv")
    if attention is None or qkv is None or "num_heads" not in found:
        return
    weight = module_part(qkv, "_parameters").get("weight")
    scale = attention.state.get("scale")
    if isinstance(weight, TensorRef) and isinstance(scale, float):
        usual = (weight.shape[0] / 3 / found["num_heads"]) ** -0.5
        if abs(scale - usual) > 1e-6 * usual:
            raise ModelError(f"the module scales its attention by {scale}, AstroMAE by {usual}; export it as .pt2.")
