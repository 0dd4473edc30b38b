"""Skyfan fans PyTorch inference out over the sky: your model over your data, in parallel, merged into one table.

It never executes code that came with data or a model. A dataset or a checkpoint is read as a description of tensors; an
exported program may call operators on Skyfan's list only, with arguments that were checked; and the `skyfan` command
imports no module and reads no settings from the folder that it runs in. What is not promised: see
docs/explanation/security.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

from skyfan._version import __version__

if TYPE_CHECKING:
    from skyfan.api import Dataset, Job, Run, Summary, load_model, open_dataset, open_run, plan, run
    from skyfan.errors import (
        BadInput,
        DatasetError,
        Incomplete,
        Interrupted,
        LocationError,
        ModelError,
        RankTooLarge,
        RunConflict,
        SkyfanError,
        Transient,
    )

__all__ = [
    "BadInput",
    "Dataset",
    "DatasetError",
    "Incomplete",
    "Interrupted",
    "Job",
    "LocationError",
    "ModelError",
    "RankTooLarge",
    "Run",
    "RunConflict",
    "SkyfanError",
    "Summary",
    "Transient",
    "__version__",
    "load_model",
    "open_dataset",
    "open_run",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562), so that a rank does not import what it does not use."""
    if name not in __all__:
        raise AttributeError(f"module 'skyfan' has no attribute {name!r}")
    errors = importlib.import_module("skyfan.errors")
    return getattr(errors if hasattr(errors, name) else importlib.import_module("skyfan.api"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
