"""The report page of a run, and the figures on it.

Of its modules `page` and what it draws with are imported when a page is drawn: matplotlib takes longer to import than
many a rank to compute. That it is there is looked up here, before anything is computed.
"""

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from skyfan.errors import BadInput

for _needed in ("jinja2", "matplotlib"):
    if find_spec(_needed) is None:
        raise BadInput(f"a run's report needs {_needed}, which is not installed: pip install 'skyfan[report]'.")


def import_page() -> None:
    """Imports what a page is drawn with, on a thread beside other work.

    Not where that would need another current folder (see `drawing`), which is that of all threads.
    """
    if not Path("matplotlibrc").exists():
        with suppress(ImportError, OSError):  # met again, and reported, when the page is drawn
            import_module("skyfan.report.page")
