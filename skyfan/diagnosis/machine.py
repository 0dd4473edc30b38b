"""This machine: versions, engine, device, memory, threads, sandbox."""

import os
import platform
import resource
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from skyfan._version import __version__
from skyfan.diagnosis.findings import FAIL, OK, WARN, Finding
from skyfan.engines.device import CPU, CUDA, available_device
from skyfan.engines.threads import THREADS_VARIABLE, available_threads
from skyfan.errors import SkyfanError
from skyfan.sandbox import SandboxStatus, sandbox_status
from skyfan.torch_libraries import NVIDIA_DRIVER
from skyfan.units import counted, format_size

_PACKAGES = ("numpy", "torch", "openvino", "pyarrow", "obstore", "grpcio", "boto3")
# The engines; the extra that brings each has its name.
_ENGINES = ("openvino", "torch")
# An executor takes 442 MB (benchmarks/results/targets.md), and a run on this machine has two.
NEEDED_MEMORY_BYTES = 2**30
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def examine_machine(*, runs_ranks: bool = True) -> Iterator[Finding]:
    """One finding after another; the engine's and the sandbox's take a second or two.

    Where ranks run elsewhere, this machine needs none of what computes them: only versions are told.
    """
    if not runs_ranks:
        found, _ = _installed(tuple(name for name in _PACKAGES if name not in _ENGINES))
        yield Finding("versions", OK, f"{found}; ranks run elsewhere, with their own engines")
        return
    yield _versions()
    yield _engine()
    yield _device()
    yield memory(available_memory_bytes())
    yield threads(available_threads(), _granted_processors(_CGROUP / "cpu.max"))
    yield sandbox(sandbox_status())


def _installed(packages: Sequence[str]) -> tuple[str, list[str]]:
    """The versions in one line, and the packages that are not there."""
    found = f"skyfan {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    lacking = []
    for name in packages:
        try:
            found += f", {name} {version(name)}"
        except PackageNotFoundError:
            lacking.append(name)
    return found, lacking


def _versions() -> Finding:
    found, lacking = _installed(_PACKAGES)
    missing = [name for name in _ENGINES if name in lacking]
    if len(missing) == len(_ENGINES):
        return Finding("versions", FAIL, f"{found}; no engine is installed", "pip install 'skyfan[openvino,torch]'")
    if missing:
        remedy = f"pip install 'skyfan[{','.join(missing)}]'"
        return Finding("versions", WARN, f"{found}; {' and '.join(missing)} is not installed", remedy)
    return Finding("versions", OK, found)


def _engine() -> Finding:
    """The packaged model predicts one blank sample with the engine that `auto` takes."""
    import numpy as np

    from skyfan.engines import create_engine
    from skyfan.job import DEMO_MODEL, RunOptions
    from skyfan.models.loading import load_model

    try:
        model = load_model(DEMO_MODEL)
        engine = create_engine(model, RunOptions(), threads=1)
        engine.predict([np.zeros([size or 1 for size in each.shape], np.float32) for each in model.inputs])
    except (SkyfanError, ImportError, OSError, RuntimeError) as error:
        remedy = "install it again: pip install --force-reinstall 'skyfan[openvino,torch]'"
        return Finding("engine", FAIL, f"the packaged model does not run: {error}", remedy)
    info = engine.info
    return Finding("engine", OK, f"{info.name} {info.version} runs the packaged model ({info.reason})")


def _device() -> Finding:
    try:
        device = available_device()
    except SkyfanError as error:
        return Finding("device", FAIL, str(error), "unset the variable, or give one of its values")
    if device == CPU:
        if NVIDIA_DRIVER.exists():
            remedy = "for the GPU, install the build of torch for CUDA (pytorch.org), or unset SKYFAN_DEVICE"
            return Finding("device", WARN, "cpu, though there is an NVIDIA driver", remedy)
        return Finding("device", OK, "cpu (there is no NVIDIA driver)")
    if not find_spec("torch"):
        return Finding("device", FAIL, f"{device}, but torch is not installed", "pip install 'skyfan[torch]'")
    import torch

    if device == CUDA and not torch.cuda.is_available():
        remedy = "unset SKYFAN_DEVICE, or install the driver and the build of torch for CUDA"
        return Finding("device", FAIL, "SKYFAN_DEVICE is cuda, but torch finds no GPU", remedy)
    free, total = torch.cuda.mem_get_info()
    return Finding("device", OK, f"{torch.cuda.get_device_name()}, {format_size(free)} of {format_size(total)} free")


def memory(available_bytes: int | None) -> Finding:
    """Whether two executors fit."""
    if available_bytes is None:
        return Finding("memory", OK, "not told by this system")
    found = f"{format_size(available_bytes)} available"
    if available_bytes < NEEDED_MEMORY_BYTES:
        remedy = (
            f"two executors take about {format_size(NEEDED_MEMORY_BYTES)}: use --workers 1, or close other programs"
        )
        return Finding("memory", WARN, found, remedy)
    return Finding("memory", OK, found)


def available_memory_bytes() -> int | None:
    """The least of what the system has left, what the control group allows and what the process may address."""
    limits = [_memory_left(), _group_memory_left(_CGROUP)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits.append(None if soft == resource.RLIM_INFINITY else soft)
    return min((limit for limit in limits if limit is not None), default=None)


def _memory_left() -> int | None:
    if not _MEMINFO.exists():
        return None
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)


def _group_memory_left(group: Path) -> int | None:
    """Of a control group, version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html); None without a limit."""
    limit, used = group / "memory.max", group / "memory.current"
    if not limit.exists() or not used.exists():
        return None
    text = limit.read_text().strip()
    return max(0, int(text) - int(used.read_text())) if text.isdigit() else None


def threads(used: int, granted: float | None) -> Finding:
    """Whether there are more threads than processors; `granted` is the time that a container may use, in processors."""
    found = f"{counted(used, 'thread')} in all, {counted(os.cpu_count() or 1, 'processor')} in the machine"
    if granted is not None and used > max(1.0, granted):
        return Finding(
            "threads",
            WARN,
            f"{found}, but this container may use the time of {granted:g}",
            f"set {THREADS_VARIABLE}={max(1, int(granted))}: threads that wait for each other are slower than fewer",
        )
    return Finding("threads", OK, found)


def _granted_processors(limit: Path) -> float | None:
    if not limit.exists():
        return None
    quota, _, period = limit.read_text().partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def sandbox(status: SandboxStatus) -> Finding:
    """Whether the child in which programs are tried is kept from writing and from the network."""
    lacking = [] if status.writes_confined else ["write outside its folder"]
    if not status.network_closed:
        lacking.append("reach the network")
    if not lacking:
        found = f"programs are tried in a child that cannot write or connect (Landlock version {status.landlock})"
        return Finding("sandbox", OK, found)
    return Finding(
        "sandbox",
        WARN,
        f"the child in which programs are tried could {' and '.join(lacking)}: the kernel's Landlock "
        f"{f'is of version {status.landlock}' if status.landlock else 'is absent or off'}; the check of programs holds "
        "all the same",
        "Linux 6.7 or later with lsm=landlock adds this second line of defence",
    )
