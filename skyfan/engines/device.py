"""Which device an executor computes on."""

from pathlib import Path

from skyfan.errors import BadInput
from skyfan.settings import ComputeSettings, read, variable

DEVICE_VARIABLE = variable(ComputeSettings, "device")
DEVICES = AUTO, CPU, CUDA = ("auto", "cpu", "cuda")
# The NVIDIA driver's own device. Where it is missing there is no GPU, and torch, which takes a second to import,
# need not be asked.
_NVIDIA_DRIVER = Path("/dev/nvidiactl")


def checked_device(name: str, said_by: str) -> str:
    """`name` if it is one of `DEVICES`."""
    if name not in DEVICES:
        raise BadInput(f"{said_by} is {name!r}; choose one of {', '.join(DEVICES)}.")
    return name


def available_device(name: str | None = None) -> str:
    """`name`, or `SKYFAN_DEVICE`; `auto` (the default) is the GPU if there is one that torch can use."""
    chosen = name or read(ComputeSettings).device
    if chosen != AUTO:
        return chosen
    if not _NVIDIA_DRIVER.exists():
        return CPU
    import torch

    return CUDA if torch.cuda.is_available() else CPU
