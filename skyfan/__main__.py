"""`skyfan` and `python -m skyfan`: the command line, whose imports take long enough to be interrupted."""

import sys

from skyfan.errors import Interrupted


def main() -> None:
    """Runs the command line; Ctrl-C before it is there ends as Ctrl-C later does."""
    try:
        from skyfan.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("skyfan: interrupted.\n")
        sys.exit(Interrupted.exit_code)
    command_line()


if __name__ == "__main__":
    main()
