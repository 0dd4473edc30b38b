"""What is in the images: enough to serve and to be a Lambda function, and nothing that does not belong there."""

import re
import subprocess
from pathlib import Path

import docker
import pytest

from tests.containers.stack import ROOT, TAG

pytestmark = pytest.mark.docker

# Bytes, as the issue allows; 1 MB of an image is 10^6 bytes to Docker.
LIMITS = {
    "executor": 600e6,
    "executor-torch": 1300e6,  # with ONNX, which it converts as well
    "partitioner": 550e6,
    "aggregator": 550e6,
    "rendezvous": 550e6,
    "driver": 550e6,
}
LAMBDA = ("executor", "executor-torch", "partitioner", "aggregator")


def run(service: str, *command: str) -> str:
    """What a command says in the service's image, without network and with a read-only root."""
    hardened = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    asked = ["docker", "run", "--rm", *hardened, f"--entrypoint={command[0]}", f"skyfan-{service}:{TAG}", *command[1:]]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("service", LIMITS)
def test_an_image_is_small_unprivileged_and_labelled(images: None, service: str) -> None:
    image = docker.from_env().images.get(f"skyfan-{service}:{TAG}")
    assert image.attrs["Size"] <= LIMITS[service]
    assert image.attrs["Config"]["User"] == "10001:10001"
    assert "HOME=/tmp" in image.attrs["Config"]["Env"]  # Lambda's own user has no home, and nothing else to write to
    labels = {key.removeprefix("org.opencontainers.image."): text for key, text in image.labels.items()}
    assert {"title": f"skyfan-{service}", "licenses": "Apache-2.0"}.items() <= labels.items()
    assert {"version", "revision", "description"} <= labels.keys()
    names = run(service, "python", "-c", FIND).split()
    assert ("torch" in names) == (service == "executor-torch")
    assert not {"openvino_telemetry", "pip", "gcc", "cc"} & set(names)


FIND = """
import importlib.util, shutil
modules = [name for name in ("torch", "openvino_telemetry", "pip") if importlib.util.find_spec(name)]
print(*modules, *(tool for tool in ("gcc", "cc") if shutil.which(tool)))
"""


@pytest.mark.parametrize("service", LAMBDA)
def test_an_image_is_a_lambda_function_too(images: None, service: str) -> None:
    module = f"services.{service.removesuffix('-torch')}.lambda_handler"
    found = run(service, "python", "-c", f"import awslambdaric, {module} as it; print(callable(it.handler))")
    assert found.splitlines()[-1] == "True"


@pytest.mark.parametrize("service", LAMBDA)
def test_an_image_holds_the_bytecode_of_all_that_its_function_imports(images: None, service: str) -> None:
    assert run(service, "python", "-c", UNCOMPILED, service.removesuffix("-torch")).splitlines()[-1] == "[]"


UNCOMPILED = """
import importlib, os, sys
importlib.import_module(f"services.{sys.argv[1]}.lambda_handler")
specs = [module.__spec__ for module in sys.modules.values() if getattr(module, "__spec__", None)]
print(sorted(spec.name for spec in specs if spec.cached and not os.path.exists(spec.cached)))
"""


@pytest.mark.parametrize("service", LIMITS)
def test_an_image_holds_the_versions_that_are_tested(service: str) -> None:
    def pins(path: Path) -> dict[str, str]:
        found = re.findall(r"^([a-z0-9._-]+)==([^\s#]+)", path.read_text(), re.MULTILINE)
        return {name: version.removesuffix("+cpu") for name, version in found}

    tested = pins(ROOT / "requirements" / "dev.txt")
    locked = pins(ROOT / "requirements" / f"{service}.txt")
    assert locked
    assert {name: tested.get(name) for name in locked} == locked
