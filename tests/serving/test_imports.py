"""What an executor has imported when it is ready for its first rank: a cold start waits for all of it."""

import json
import subprocess
import sys

UNUSED = (
    "boto3",
    "jinja2",
    "matplotlib",
    "openvino",  # when the engine is made
    "pandas",
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
    assert imported_of(UNUSED, "services.executor.lambda_handler") == []


def test_structlog_without_rich_takes_it_from_nobody_else():
    code = "import sys, skyfan.serving, rich.console; assert sys.modules['structlog'].dev.rich is None"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
