"""Which devices there are, without asking torch."""

from pathlib import Path

import pytest
import torch

from skyfan.engines.device import available_device, visible_gpus
from skyfan.errors import BadInput


def test_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYFAN_DEVICE", raising=False)
    if not torch.cuda.is_available():
        assert available_device() == "cpu"
    assert available_device("cuda") == "cuda"
    monkeypatch.setenv("SKYFAN_DEVICE", "toaster")
    with pytest.raises(BadInput, match="SKYFAN_DEVICE is 'toaster'; give one of auto, cpu, cuda"):
        available_device()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, ("0", "1", "2")),
        ("", ()),
        ("2,0", ("2", "0")),
        ("1,7,0", ("1",)),
        ("-1", ()),
        ("GPU-8932f937,MIG-2fb4", ("GPU-8932f937", "MIG-2fb4")),
    ],
)
def test_gpus_are_those_that_cuda_would_use(
    variable: str | None, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus(tmp_path) == expected
    assert visible_gpus(tmp_path / "nothing") == ()
