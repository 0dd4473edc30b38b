"""What a training leaves: the model, and beside it a folder with its checkpoints and its curve.

<name>.safetensors                     the trained model
<name>.training/state.safetensors      everything that the training continues from; gone when it is done
<name>.training/best.safetensors       the best model so far, ready to use; gone when it is done
<name>.training/curve.csv, curve.png   losses and metrics by epoch
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from skyfan import store
from skyfan._version import __version__
from skyfan.models.config import AstroMAEConfig
from skyfan.models.loading import LoadedModel
from skyfan.models.safetensors_files import model_bytes
from skyfan.training.curve import curve_csv, curve_png
from skyfan.training.training_settings import Trained, TrainingSettings

TRAINING_KEY = "training"


@dataclass(frozen=True)
class TrainingFiles:
    """The files of the training that writes `model`."""

    model: Path

    @property
    def folder(self) -> Path:
        """Where the checkpoints and the curve are."""
        return self.model.with_suffix(".training")

    @property
    def state(self) -> Path:
        """The checkpoint that a training continues from."""
        return self.folder / "state.safetensors"

    @property
    def best(self) -> Path:
        """The best model so far."""
        return self.folder / "best.safetensors"

    def save_epoch(self, trained: Trained, content: bytes) -> None:
        """After an epoch: the curve so far, and the model (`content`) where this epoch is the best."""
        store.put(str(self.folder / "curve.csv"), curve_csv(trained.history))
        if trained.history[-1].best:
            store.put(str(self.best), content)

    def finish(self, trained: Trained, content: bytes) -> None:
        """The model itself (`content`), and its curve; the checkpoints are removed."""
        store.put(str(self.folder / "curve.csv"), curve_csv(trained.history))
        store.put(str(self.folder / "curve.png"), curve_png(trained.history))
        store.put(str(self.model), content)
        self.discard()

    def discard(self) -> None:
        """Removes the checkpoints."""
        for path in (self.state, self.best):
            path.unlink(missing_ok=True)


def trained_bytes(trained: Trained, settings: TrainingSettings, dataset_sha256: str) -> bytes:
    """The safetensors bytes of a trained model, with the settings, data and validation metrics in the metadata."""
    told = {
        "settings": asdict(settings),
        "dataset_sha256": dataset_sha256,
        "training_samples": trained.training_samples,
        "validation_samples": trained.validation_samples,
        "best": asdict(trained.best),
        "torch": torch.__version__,
    }
    extra = {"skyfan_version": __version__, TRAINING_KEY: json.dumps(told, sort_keys=True)}
    return model_bytes(trained.model, extra)


def is_result_of(model: LoadedModel, settings: TrainingSettings, dataset_sha256: str, sizes: AstroMAEConfig) -> bool:
    """Whether the model was trained on this data with these settings, and has these sizes beside those of the data."""
    told = json.loads(model.metadata.get(TRAINING_KEY, "{}"))
    if model.config is None or _beside_data(model.config) != _beside_data(sizes):
        return False
    return bool(told.get("settings") == asdict(settings) and told.get("dataset_sha256") == dataset_sha256)


def _beside_data(config: AstroMAEConfig) -> AstroMAEConfig:
    """The sizes without those that follow from the data and the loss."""
    given = AstroMAEConfig()
    return replace(
        config,
        channels=given.channels,
        image_size=config.patch_size * 4,
        magnitudes=given.magnitudes,
        mixture=given.mixture,
    )
