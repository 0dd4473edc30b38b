"""checkov's policies on the module and its examples: nothing fails, and whatever is skipped says why beside it."""

from __future__ import annotations

import re
import subprocess

import pytest

from .tf_harness.workspace import ROOT, TOOLS

CHECKOV = TOOLS / "checkov/bin/checkov"
MODULE = ROOT / "infra/terraform"


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOV.exists(), reason="no .terraform-tools: `make test-terraform` fetches them")
def test_checkov_finds_nothing() -> None:
    done = subprocess.run(
        [CHECKOV, "--directory", MODULE, "--framework", "terraform",
         "--quiet", "--compact", "--skip-download"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Failed checks: 0" in done.stdout


def test_every_skip_has_its_reason() -> None:
    for path in MODULE.rglob("*.tf"):
        for line in path.read_text().splitlines():
            if "checkov:skip" in line:
                assert re.search(r"#checkov:skip=CKV2?_\w+: \w.{20,}", line), f"{path.name}: {line}"
