"""`skyfan` and `python -m skyfan`: the command line, whose imports take long enough to be interrupted."""

import gc
import os
import signal
import sys
import threading

from skyfan.arrow_import import import_arrow_without_pandas
from skyfan.errors import RETRY_EXIT_CODE, BadInput, Interrupted
from skyfan.torch_libraries import begin_loading

# Commands that compute; others may use libraries that exchange data frames with pyarrow.
_WITHOUT_FRAMES = frozenset({"run", "demo", "rank", "aggregate", "report", "verify"})


def main() -> None:
    """Runs the command line; Ctrl-C before it is there ends as Ctrl-C later does."""
    if sys.platform == "win32":
        sys.stderr.write("skyfan: runs on Linux and macOS; on Windows, start it in WSL 2 or in a container.\n")
        sys.exit(BadInput.exit_code)
    _import_nothing_from_here()
    if sys.argv[1:2] == ["rank"]:
        # Until it computes, there is nothing to stop, and its scheduler reads no other code of a task that may go on.
        for notice in (signal.SIGTERM, signal.SIGINT):
            signal.signal(notice, lambda _signal, _frame: os._exit(RETRY_EXIT_CODE))
    try:
        begin_loading(sys.argv[1:])
        if sys.argv[1:2] and sys.argv[1] in _WITHOUT_FRAMES:
            import_arrow_without_pandas()
        from skyfan.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("skyfan: interrupted.\n")
        sys.exit(Interrupted.exit_code)
    try:
        command_line()
    except SystemExit as ended:
        if ended.code in (Interrupted.exit_code, RETRY_EXIT_CODE) and threading.active_count() > 1:
            # A thread may hang in a read; Python would wait for it, and the user has asked to stop.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        # What is left ends with the process: Python would look through all of torch's objects first, for 0.4 s.
        gc.freeze()
        raise


def _import_nothing_from_here() -> None:
    """Take the current folder off the path of modules, in this process and in all that it starts.

    `python -m` puts it first, and so does the start of a multiprocessing child: a `numpy.py` beside the data would run.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 (before pathlib)
        del sys.path[0]


if __name__ == "__main__":
    main()
