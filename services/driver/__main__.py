"""`python -m services.driver COMMAND …`: a `skyfan` command, as the user who called `docker compose`."""

import os

from services.driver.buckets import make_buckets
from services.driver.caller import CLONE, become, find_caller, give_folder


def main() -> None:
    """Gives up root, where the container has it, before anything else; then runs the command."""
    if os.getuid() == 0 and CLONE.exists():
        caller = find_caller()
        give_folder(caller)
        become(caller)
    make_buckets()
    from skyfan.cli import main as skyfan

    skyfan()


if __name__ == "__main__":
    main()
