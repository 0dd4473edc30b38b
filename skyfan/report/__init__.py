"""The report page of a run, and the figures on it.

Of its modules `page` and what it draws with are imported when a page is drawn: matplotlib takes longer to import than
many a rank to compute. That it is there is looked up here, before anything is computed.
"""

import importlib
import threading
from importlib.util import find_spec
from pathlib import Path

from skyfan.errors import BadInput

for _needed in ("jinja2", "matplotlib"):
    if find_spec(_needed) is None:
        raise BadInput(f"a run's report needs {_needed}, which is not installed; install skyfan[report].")


def preload() -> None:
    """Imports what a page is drawn with on a thread of its own: for a process that waits for a GPU meanwhile."""
    # `drawing` leaves a folder with matplotlib's settings for a moment, which other threads must not see.
    if not Path("matplotlibrc").exists():
        threading.Thread(target=importlib.import_module, args=("skyfan.report.page",), daemon=True).start()
