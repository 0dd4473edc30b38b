"""What variants measure beside the time: memory, the machine, and the rate of a bare matrix product."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "openvino", "numpy", "obstore", "pyarrow")
GEMM_SIZE = 2048
SAMPLES_OF_100_MB = 5113


def peak_rss_bytes() -> int:
    """Peak resident memory of this process."""
    return _status("VmHWM")


def rss_bytes() -> int:
    """Resident memory of this process now."""
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this kernel does not tell {key}")


def gemm_flops_per_s(threads: int, seconds: float = 1.5) -> dict[str, float]:
    """Float32 2048³ products: `wall` and `cpu` (FLOP per CPU second, which a busy machine disturbs less).

    By the faster of the two libraries in torch, MKL and oneDNN, so that the floor is not set too low.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    left, right = torch.rand(GEMM_SIZE, GEMM_SIZE), torch.rand(GEMM_SIZE, GEMM_SIZE)
    packed = torch.ops.mkldnn._reorder_linear_weight(right, GEMM_SIZE)
    products = (
        lambda: torch.mm(left, right),
        lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], ""),
    )
    best = {"wall": 0.0, "cpu": 0.0}
    for product in products:
        product()
        start, cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds / 2:
            product()
            count += 1
        flops = 2 * GEMM_SIZE**3 * count
        best["wall"] = max(best["wall"], flops / (time.perf_counter() - start))
        best["cpu"] = max(best["cpu"], flops / (time.process_time() - cpu))
    torch.set_num_threads(before)
    return best


def flops_per_sample(model: Any) -> float:
    """Multiplications and additions of matrix products and convolutions of the model as it is defined."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = [torch.rand([2, *(size for size in wanted.shape[1:] if size)]) for wanted in model.inputs]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.module(*inputs)
    return counter.get_total_flops() / 2


def machine() -> dict[str, Any]:
    """Where and with what the numbers were taken."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
