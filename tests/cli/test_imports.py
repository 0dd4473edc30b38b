"""What starting a command imports."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

START = "import json, sys, skyfan.cli; {}; print(json.dumps(sorted(sys.modules)))"


def imported(statement: str) -> set[str]:
    code = START.format(statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_starting_a_command_imports_nothing_that_draws_or_computes():
    assert not {"matplotlib", "torch", "galsim", "jinja2", "boto3"} & imported("skyfan.cli.app")


def test_a_command_imports_none_of_the_others():
    asked = "sys.argv[1:] = ['verify', '--help']\ntry:\n    skyfan.cli.main()\nexcept SystemExit:\n    pass\n"
    others = {"grpc", "skyfan.cli.comm", "skyfan.curation", "skyfan.studies", "skyfan.sky"}
    found = imported(f"exec({asked!r})")
    assert "skyfan.cli.verify" in found
    assert not others & found
