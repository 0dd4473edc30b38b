"""What starting any command imports."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_starting_a_command_imports_nothing_that_draws_or_computes():
    code = "import json, sys, skyfan.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not {"matplotlib", "torch", "galsim", "jinja2", "boto3"} & set(json.loads(done.stdout))
