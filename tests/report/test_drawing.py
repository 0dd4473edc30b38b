"""Figures are drawn with matplotlib's own and the user's settings, not with those of the folder that the data is in."""

import re
import subprocess
import sys
from pathlib import Path

import skyfan

_AT_START = re.compile(r"^(from|import) matplotlib", re.MULTILINE)
_SIZE = "from skyfan.report.drawing import mpl; print(mpl.rcParams['figure.figsize'] == [1.0, 1.0])"


def test_settings_of_the_current_folder_are_not_read(tmp_path):
    (tmp_path / "matplotlibrc").write_text("figure.figsize: 1, 1\nskyfan.hostile: 1\n")
    found = subprocess.run(
        [sys.executable, "-P", "-c", _SIZE], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert (found.stdout.strip(), found.stderr) == ("False", "")


def test_no_other_module_imports_matplotlib():
    root = Path(skyfan.__file__).parent
    importing = [path.name for path in root.rglob("*.py") if _AT_START.search(path.read_text())]
    assert importing == ["drawing.py"]
