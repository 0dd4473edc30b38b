"""Which device an executor computes on."""

import os
import re
from pathlib import Path

from skyfan.errors import BadInput
from skyfan.settings import ComputeSettings, read, variable
from skyfan.torch_libraries import NVIDIA_DRIVER

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
DEVICE_VARIABLE = variable(ComputeSettings, "device")
DEVICES = AUTO, CPU, CUDA = ("auto", "cpu", "cuda")


def checked_device(name: str) -> str:
    """`name`, checked.

    Raises:
        BadInput: it is not one of `DEVICES`.
    """
    if name not in DEVICES:
        raise BadInput(f"--device is {name!r}; choose one of {', '.join(DEVICES)}.")
    return name


def available_device(name: str | None = None) -> str:
    """`name`, or `SKYFAN_DEVICE`; `auto` (the default) is the GPU if there is one that torch can use."""
    chosen = name or read(ComputeSettings).device
    if chosen != AUTO:
        return chosen
    if not NVIDIA_DRIVER.exists():
        return CPU
    import torch

    return CUDA if torch.cuda.is_available() else CPU


def visible_gpus(device_folder: Path = Path("/dev")) -> tuple[str, ...]:
    """What to set `CUDA_VISIBLE_DEVICES` to, once for every GPU that this process may use; torch is not imported.

    The entries of this process' own `CUDA_VISIBLE_DEVICES` (numbers or UUIDs, of GPUs or MIG slices), up to the first
    that CUDA would not take, as CUDA reads it (CUDA C++ programming guide, "CUDA environment variables"); where it is
    not set, the numbers of the driver's devices.
    """
    present = sorted(path.name for path in device_folder.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    allowed = os.environ.get(VISIBLE_DEVICES)
    if allowed is None:
        return tuple(str(number) for number in range(len(present)))
    found: list[str] = []
    for entry in (part.strip() for part in allowed.split(",")):
        is_number = entry.isdigit() and int(entry) < len(present)
        if not (is_number or entry.startswith(("GPU-", "MIG-"))):
            break
        found.append(entry)
    return tuple(found) if present else ()
