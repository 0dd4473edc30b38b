"""Reference pages that are generated from the code are what the code makes of them today."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import typer.main

import skyfan
from skyfan.errors import SkyfanError

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_are_current():
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_class_of_error_is_on_the_page():
    for module in pkgutil.walk_packages(skyfan.__path__, "skyfan."):
        if not module.name.endswith("__main__") and ".v1." not in module.name:
            importlib.import_module(module.name)
    page = (DOCS / "reference" / "errors.md").read_text()
    assert [kind.__name__ for kind in _below(SkyfanError) if f"`{kind.__name__}`" not in page] == []


def test_what_an_error_advises_exists():
    from skyfan.cli import app

    options = set(_options(typer.main.get_command(app)))
    advised = {option for kind in _below(SkyfanError) for option in re.findall(r"--[a-z-]+", kind.cure)}
    assert advised
    assert advised <= options


def _below(kind):
    return [
        kind,
        *(
            found
            for child in kind.__subclasses__()
            for found in _below(child)
            if child.__module__.startswith("skyfan.")
        ),
    ]


def _options(command):
    for parameter in command.params:
        yield from parameter.opts
    for child in getattr(command, "commands", {}).values():
        yield from _options(child)
