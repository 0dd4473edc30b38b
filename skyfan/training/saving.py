"""Trained models as safetensors files."""

import json
from dataclasses import asdict

import torch

from skyfan._version import __version__
from skyfan.models.conversion import model_bytes
from skyfan.training.settings import Trained, TrainingSettings

TRAINING_KEY = "training"


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
