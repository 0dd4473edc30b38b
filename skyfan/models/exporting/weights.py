"""Finds a module's weights in the files that people keep them in; every file is read as data.

Plain state dicts, checkpoints of PyTorch Lightning (`state_dict`, with `model.` before the names) and of other
trainers, whole pickled modules, safetensors files, and folders of Hugging Face (one safetensors file, or shards with an
index).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skyfan import store
from skyfan.errors import ModelError
from skyfan.models.checkpoint import StateDict
from skyfan.models.torch_checkpoint import raw_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

_INDEX = "model.safetensors.index.json"
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_LISTED = 5


@dataclass(frozen=True)
class LoadedWeights:
    """`prefix` stood before the names in the file, `left_out` are names that the module does not have."""

    prefix: str
    left_out: tuple[str, ...]


def load_weights(module: "nn.Module", where: str) -> LoadedWeights:
    """Gives the module the weights at a path or URI, a file or a Hugging Face folder.

    Raises:
        ModelError: a weight of the module is not there or has another shape, or the file holds several models.
        LocationError: there is nothing.
    """
    import torch

    found = _read(where)
    wanted: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    prefix = _prefix(found, _needed(wanted), where)
    given = {name: found[prefix + name] for name in wanted if prefix + name in found}
    for name, values in given.items():
        if values.shape != tuple(wanted[name].shape):
            raise ModelError(
                f"{where}: the weight {prefix}{name} has the shape {list(values.shape)}, the module's "
                f"{list(wanted[name].shape)}; make the module of the same sizes, for example with --arguments."
            )
    # The dtypes of ml_dtypes (bfloat16 and the 8-bit ones) are of kind V to numpy, and unknown to torch.
    plain = {name: v.astype(np.float32) if v.dtype.kind == "V" else v for name, v in given.items()}
    module.load_state_dict({name: torch.from_numpy(v) for name, v in plain.items()}, strict=False)
    taken = {prefix + name for name in given}
    return LoadedWeights(prefix, tuple(name for name in found if name not in taken))


def _needed(wanted: Mapping[str, "Tensor"]) -> list[set[str]]:
    """Names of the module's weights; tied ones, of which a file may hold one, in one set."""
    tied: dict[int, set[str]] = {}
    for name, values in wanted.items():
        if not name.endswith("num_batches_tracked"):  # counts training steps; files of older torch lack it
            tied.setdefault(id(values), set()).add(name)
    return list(tied.values())


def _prefix(found: StateDict, needed: list[set[str]], where: str) -> str:
    """What stands before the module's names in the file: nothing, or `model.`, `module.` and the like."""
    if not needed:
        return ""
    anchors = [(name, key) for name in needed[0] for key in found if key == name or key.endswith(f".{name}")]
    candidates = dict.fromkeys(sorted((key.removesuffix(name) for name, key in anchors), key=len))
    fitting = [c for c in candidates if all(any(c + name in found for name in names) for names in needed)]
    if "" in fitting or len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ModelError(
            f"{where} holds the weights of {len(fitting)} such models ({', '.join(fitting[:_LISTED])}); save the "
            "state_dict() of one of them."
        )
    closest = max(candidates, key=lambda c: sum(any(c + n in found for n in names) for names in needed), default="")
    missing = [min(names) for names in needed if not any(closest + name in found for name in names)]
    raise ModelError(
        f"{where} lacks {len(missing)} of the module's {len(needed)} weights, such as {missing[0]}; it holds "
        f"{', '.join(list(found)[:_LISTED])}, …: make the module that these weights are of."
    )


def _read(where: str) -> StateDict:
    """All weights at `where`, under the file's own names."""
    names = {} if store.exists(where) else {entry.uri.rsplit("/", 1)[-1]: entry.uri for entry in store.list(where)}
    if not names:
        return raw_weights(store.read(where), where)
    if _INDEX in names:
        return _read_shards(names, where)
    files = [names[name] for name in _SINGLE_FILES if name in names]
    files = files or [uri for name, uri in names.items() if name.endswith(".safetensors")]
    if not files:
        raise ModelError(f"{where} holds none of {', '.join((_INDEX, *_SINGLE_FILES))}; name the file of the weights.")
    return raw_weights(store.read(files[0]), files[0])


def _read_shards(names: Mapping[str, str], where: str) -> StateDict:
    try:
        shards = dict.fromkeys(json.loads(store.read(names[_INDEX]))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{names[_INDEX]} is no index of shards: {error}.") from error
    absent = next((shard for shard in shards if shard not in names), None)
    if absent is not None:
        raise ModelError(f"{where} lacks {absent}, which its {_INDEX} names; download the folder again.")
    found: StateDict = {}
    for shard in shards:
        found |= raw_weights(store.read(names[shard]), names[shard])
    return found
