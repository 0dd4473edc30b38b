"""The tutorial's way from numpy to a HATS catalogue and a crossmatch, as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
CHECKS = """
assert matches["objid"].tolist() == matches["objid_other"].tolist()
assert sorted(matches["objid"]) == sorted(table.sample(50, random_state=1)["objid"])
assert matches["z_pred"].notna().all()
assert len(mine) == 200
"""


def test_the_code_runs_and_the_crossmatch_finds_its_own_galaxies(tmp_path):
    pytest.importorskip("lsdb")
    pytest.importorskip("cdshealpix")
    section = TUTORIAL.read_text(encoding="utf-8").split("## Your own galaxies")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert max(len(block.splitlines()) for block in blocks) <= 12  # ten lines and their imports
    # A process of its own: lsdb's scheduler leaves threads behind.
    code = "\n".join([*blocks, CHECKS])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
