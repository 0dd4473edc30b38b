"""Figures are drawn with matplotlib's own and the user's settings, not with those of the folder that the data is in."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import skyfan
from skyfan.report.drawing import on_drawing_thread
from skyfan.report.figures import page_svg, timeline_figure
from tests.report.runs import make_record

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


@on_drawing_thread
def drawn_picture(rank: int) -> str:
    return page_svg(timeline_figure([make_record(rank).to_json_dict()]), "ranks", "ranks")


def test_pictures_asked_for_by_many_threads_are_as_if_drawn_alone_and_leave_no_fonts_open():
    """A service draws for each call on any of its threads, a notebook for each run on a new one."""
    alone, opened, found = [drawn_picture(rank) for rank in range(8)], open_fonts(), {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: drawn_picture(n)})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[rank] for rank in range(8)] == alone
    assert open_fonts() == opened


def open_fonts() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += link.readlink().suffix == ".ttf"
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return found
