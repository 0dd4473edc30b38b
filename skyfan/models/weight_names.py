"""Whose weights a state dict holds: AstroMAE's own names, below the prefixes that wrappers and trainers add."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfan.errors import ModelError

Array = NDArray[Any]

# Published checkpoints register this layer twice; files of ours hold it once, under the second name.
STEM_ALIAS = "inception_model.conv2d_init."
STEM = "inception_model.vis_inception.0."

_ANCHOR = "patch_embed.proj.weight"
# Parts of a trainer that predict nothing: Lightning keeps losses and metrics beside the model.
_TRAINING_ONLY = re.compile(r"loss|criterion|metric|(train|val|valid|test)_", re.IGNORECASE)


def plain_weights(state: Mapping[str, Array]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The weights by AstroMAE's names, aliases dropped, as float32; and names of losses and metrics that were left out.

    Raises:
        ModelError: names that cannot be shown, or the weights of several models.
    """
    odd = next((name for name in state if not name.isprintable()), None)
    if odd is not None:
        raise ModelError(f"the file is damaged: it holds a weight with the name {odd!r}.")
    prefix = _prefix(state)
    left_out = tuple(n for n in state if not n.startswith(prefix) and _TRAINING_ONLY.match(n.split(".")[0]))
    if any(not name.startswith(prefix) for name in state.keys() - set(left_out)):
        prefix, left_out = "", ()  # the check against AstroMAE's weights names the first that is too many
    plain = {name.removeprefix(prefix): values for name, values in state.items() if name not in set(left_out)}
    for name in [name for name in plain if name.startswith(STEM_ALIAS)]:
        alias = plain.pop(name)
        kept = plain.setdefault(STEM + name.removeprefix(STEM_ALIAS), alias)
        if not np.array_equal(kept, alias):
            raise ModelError(f"the weights hold two different versions of one layer: {name} and its alias.")
    return {n: v.astype(np.float32, copy=False) if _is_floating(v) else v for n, v in plain.items()}, left_out


def _prefix(state: Mapping[str, Array]) -> str:
    """What stands before AstroMAE's names: `module.`, `_orig_mod.`, `net.encoder.`; empty where there is no such."""
    found = [name.removesuffix(_ANCHOR) for name in state if name.endswith(_ANCHOR)]
    found = [prefix for prefix in found if prefix == "" or prefix.endswith(".")]
    if len(found) > 1:
        listed = ", ".join(prefix or "no prefix" for prefix in found[:5])
        raise ModelError(
            f"the file holds the weights of {len(found)} models ({listed}); save the state_dict() of one of them."
        )
    return found[0] if found else ""


def _is_floating(values: Array) -> bool:
    # The dtypes of ml_dtypes (bfloat16 and the 8-bit ones) are of kind V to numpy.
    return values.dtype.kind in "fV"
