"""Models as safetensors files: checkpoints converted, trained models saved, with where they are from."""

import hashlib
import json
from dataclasses import asdict

import torch

from skyfan import __version__, store
from skyfan.errors import ModelError
from skyfan.models.checkpoint import write_safetensors
from skyfan.models.loading import build_astromae, is_program_file, read_checkpoint
from skyfan.models.training import Trained, TrainingSettings

SOURCE_KEY, SOURCE_DIGEST_KEY = "source", "source_sha256"
TRAINING_KEY = "training"


def convert_checkpoint(uri: str, heads: int | None = None) -> bytes:
    """The safetensors bytes of an AstroMAE checkpoint; its metadata names the source's format and SHA-256.

    `heads` is the number of attention heads where the file does not tell it.
    """
    data = store.read(uri)
    if is_program_file(data, uri):
        raise ModelError(f"{uri} is an exported program, which runs as it is and cannot be converted.")
    checkpoint = read_checkpoint(data, uri)
    model, _ = build_astromae(checkpoint, uri, {"num_heads": heads} if heads else None)
    extra = {
        "skyfan_version": __version__,
        SOURCE_KEY: checkpoint.root or checkpoint.format,
        SOURCE_DIGEST_KEY: checkpoint.metadata.get(SOURCE_DIGEST_KEY, hashlib.sha256(data).hexdigest()),
    }
    return write_safetensors(model.state_dict(), model.config, {**checkpoint.metadata, **extra})


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
    return write_safetensors(trained.model.state_dict(), trained.model.config, extra)
