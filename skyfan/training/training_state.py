"""The state of a training between two steps, as one safetensors file."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from skyfan import store
from skyfan.errors import BadInput
from skyfan.models.astromae import AstroMAE
from skyfan.training.training_settings import EpochResult

_METADATA_KEY = "skyfan.training"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class TrainingState:
    """The weights, their average, the best average so far, and the optimiser's moments."""

    model: AstroMAE
    averaged: AstroMAE
    best: AstroMAE
    optimiser: torch.optim.AdamW
    epoch: int = 0
    step: int = 0
    epochs_without_gain: int = 0
    history: list[EpochResult] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the steps of the epoch that was interrupted, and the seconds that it has taken."""
    epoch_s: float = 0.0


def save_state(path: Path, state: TrainingState, identity: str) -> None:
    """Writes the state atomically; `identity` (see `load_state`) names the training that it belongs to."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model", state.model), ("averaged", state.averaged), ("best", state.best)):
        tensors |= {f"{prefix}/{name}": tensor.clone() for name, tensor in module.state_dict().items()}
    for number, parameter in enumerate(state.model.parameters()):
        # The 5×5 branch that the last block never calls has no gradient and so no moments.
        moments = state.optimiser.state.get(parameter, {})
        tensors |= {f"optimiser/{number}/{name}": moments[name].clone() for name in _MOMENTS if moments}
    described = {
        "identity": _digest(identity),
        "epoch": state.epoch,
        "step": state.step,
        "epochs_without_gain": state.epochs_without_gain,
        "history": [asdict(result) for result in state.history],
        "losses": state.losses,
        "epoch_s": state.epoch_s,
    }
    store.put(str(path), save_safetensors(tensors, metadata={_METADATA_KEY: json.dumps(described)}))


def load_state(path: Path, fresh: TrainingState, identity: str) -> TrainingState:
    """The saved state, in the modules of `fresh`.

    Raises:
        BadInput: the file is no training state, or its identity is another one.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            described = json.loads((file.metadata() or {})[_METADATA_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadInput(f"{path} is no training state ({error}); delete it or start with --no-resume.") from error
    if described["identity"] != _digest(identity):
        raise BadInput(
            f"{path} belongs to a training with other data or settings; delete it or start with --no-resume."
        )
    for prefix, module in (("model", fresh.model), ("averaged", fresh.averaged), ("best", fresh.best)):
        start = f"{prefix}/"
        module.load_state_dict({n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)})
    for number, parameter in enumerate(fresh.model.parameters()):
        if f"optimiser/{number}/step" in tensors:
            fresh.optimiser.state[parameter] = {n: tensors[f"optimiser/{number}/{n}"] for n in _MOMENTS}
    fresh.epoch, fresh.step = described["epoch"], described["step"]
    fresh.epochs_without_gain = described["epochs_without_gain"]
    fresh.history = [EpochResult(**result) for result in described["history"]]
    fresh.losses, fresh.epoch_s = described["losses"], described["epoch_s"]
    return fresh


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
