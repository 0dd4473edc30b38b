"""What an executor has imported when it is ready for its first rank: a cold start waits for all of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCKERFILE = Path(__file__).parents[2] / "services" / "Dockerfile"

UNUSED = (
    "boto3",
    "jinja2",
    "matplotlib",
    "openvino",  # when the engine is made
    "pandas",
    "pyarrow.compute",  # when a column of text is written or a catalogue of text read
    "pyarrow.dataset",
    "rich",
    "skyfan.comm.communicator",  # when ranks talk to each other
    "skyfan.formats.torch",  # when a .pt file is read
    "torch",
    "typer",
)
CODE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


def imported_of(names: tuple[str, ...], module: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", CODE, module, *names], capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_an_executor_imports_nothing_that_its_first_rank_does_not_need():
    assert imported_of(UNUSED, "skyfan.serving.executor") == []


def test_the_executors_function_neither():
    # grpc: when ranks talk to each other
    assert imported_of((*UNUSED, "grpc"), "services.executor.lambda_handler") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "modules"),
    [
        ("executor", "services.executor.lambda_handler, skyfan.serving.executor, skyfan.engines.openvino_engine"),
        ("partitioner", "services.partitioner.lambda_handler"),
        ("aggregator", "services.aggregator.lambda_handler"),
        ("rendezvous", "services.rendezvous.__main__"),
    ],
)
def test_an_images_build_compiles_every_package_that_its_start_imports(service, modules):
    text = DOCKERFILE.read_text().replace("\\\n", "")
    stage = re.search(rf"AS {service}-packages\n(.*?)\n\n", text, re.DOTALL)[1]
    build = re.search(r'-c "(.*)"', stage, re.DOTALL)[1]
    for name, listed in re.findall(r'(GRPC|LAMBDA)="(.*?)"', text):
        build = build.replace(f"${name}", listed)
    missing = sources(f"import {modules}") - sources(build)
    ours = ("skyfan", "services", *sys.stdlib_module_names)
    assert {name for name in missing if name.partition(".")[0] not in ours} == set()


def sources(code: str) -> set[str]:
    """The modules with source that `code` imports."""
    listed = (
        "print(*(name for name, it in sys.modules.items() if getattr(getattr(it, '__spec__', None), 'cached', None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\n{listed}"], capture_output=True, check=True, timeout=120, text=True
    )
    return set(done.stdout.split())


def test_structlog_without_rich_takes_it_from_nobody_else():
    code = "import sys, skyfan.serving, rich.console; assert sys.modules['structlog'].dev.rich is None"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
