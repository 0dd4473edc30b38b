"""Backends by name; other packages add theirs as entry points of the group `skyfan.backends`."""

import importlib
from importlib.metadata import entry_points

from skyfan.backends.base import Backend, BackendSettings
from skyfan.errors import BadInput

GROUP = "skyfan.backends"
BUILT_IN = {
    "auto": "skyfan.backends.auto:AutoBackend",
    "process": "skyfan.backends.process:ProcessBackend",
    "local": "skyfan.backends.local:LocalBackend",
    "compose": "skyfan.backends.compose:ComposeBackend",
    "slurm": "skyfan.backends.slurm.backend:SlurmBackend",
    "localstack": "skyfan.backends.stepfunctions.backend:LocalStackBackend",
    "aws": "skyfan.backends.stepfunctions.backend:AwsBackend",
}


def create_backend(name: str, settings: BackendSettings | None = None) -> Backend:
    """The backend called `name`, ready to run a job.

    Raises:
        BadInput: there is none; the sentence lists those that there are.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        kind: type[Backend] = getattr(importlib.import_module(module), attribute)
        return kind(settings)
    added = {found.name: found for found in entry_points(group=GROUP)}
    if name not in added:
        raise BadInput(f"--on {name} is not a backend; choose one of {', '.join((*BUILT_IN, *sorted(added)))}.")
    loaded: type[Backend] = added[name].load()
    return loaded(settings)
