"""The image for GPUs, which is built where it is deployed: what its target of the Dockerfile installs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "services/Dockerfile").read_text()
LOCK = (ROOT / "requirements/executor-torch.txt").read_text()


def stage(name: str) -> tuple[str, str]:
    """What a stage is made from, and its instructions."""
    found = re.search(rf"^FROM (\S+) AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found, name
    return found[1], found[2]


def test_the_target_has_the_packages_of_the_lock_and_torch_from_pytorchs_cuda_builds():
    base, packages = stage("executor-gpu-packages")
    assert base == "executor-packages"
    index = re.search(r"^ARG CUDA_INDEX=(\S+)$", packages, re.M)
    assert index
    assert re.fullmatch(r"https://download\.pytorch\.org/whl/cu\d+", index[1])
    # Nothing of the lock moves when pip adds the CUDA libraries that torch's wheel pins.
    assert "--constraint /build/others.txt -r /build/torch.txt" in packages
    assert '"^torch==" /build/executor-torch.txt' in packages


def test_the_locks_torch_is_a_version_that_every_index_of_pytorch_has():
    """`torch==X.Y.Z` without a local part matches +cpu and +cu130 alike."""
    (line,) = (line for line in LOCK.splitlines() if line.startswith("torch=="))
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", line.partition("#")[0].strip()), line
    assert "nvidia" not in LOCK, "CUDA libraries come with the GPU image's torch alone"


def test_the_image_asks_the_container_runtime_for_the_driver():
    base, image = stage("executor-gpu")
    assert base == "service"
    assert "--from=executor-gpu-packages" in image
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in image


def test_terraform_builds_this_target_for_gpus():
    assert '"executor-gpu"' in (ROOT / "infra/terraform/images.tf").read_text()
