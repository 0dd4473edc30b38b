"""The start of CUDA beside what else a start has to do."""

import threading
from contextlib import suppress


def begin_cuda_start(device: str) -> None:
    """Starts CUDA and loads its libraries of products and convolutions on a thread, while the model is read.

    They took 0.5 s on an H100. The thread is no daemon: torch does not survive that Python ends while one computes.
    """
    threading.Thread(target=_start, args=(device,), name="skyfan-cuda-start").start()


def _start(device: str) -> None:
    # What fails here fails again, and is reported, when the model is put on the device.
    with suppress(ImportError, OSError, RuntimeError, AssertionError):
        import torch

        with torch.inference_mode():
            square = torch.zeros((64, 64), device=device)
            torch.nn.functional.conv2d(square[None, None], square[None, None, :3, :3])
            torch.mm(square, square).sum().item()
