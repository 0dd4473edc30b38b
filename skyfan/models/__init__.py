"""Models: the AstroMAE architecture, safe loaders of checkpoints and exported programs, training.

`load_model` is the door of everybody who wants predictions; torch is imported only where torch is to predict.
"""

import importlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from skyfan.job import DEMO_MODEL
from skyfan.models.config import AstroMAEConfig, InceptionWidths, config_from_shapes

if TYPE_CHECKING:
    from skyfan.models.astromae import AstroMAE
    from skyfan.models.loading import LoadedModel, load_model

__all__ = [
    "DEMO_MODEL",
    "AstroMAE",
    "AstroMAEConfig",
    "InceptionWidths",
    "LoadedModel",
    "config_from_shapes",
    "demo_model_path",
    "load_model",
]

_ON_FIRST_USE = {"AstroMAE": "astromae", "LoadedModel": "loading", "load_model": "loading"}


def demo_model_path() -> Path:
    """The packaged demo model, a safetensors file of raw-input AstroMAE weights."""
    return Path(str(resources.files("skyfan.models") / "data" / "demo.safetensors"))


def __getattr__(name: str) -> object:
    """Imports what needs torch or safetensors on first use (PEP 562)."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"skyfan.models.{_ON_FIRST_USE[name]}"), name)
    return found
