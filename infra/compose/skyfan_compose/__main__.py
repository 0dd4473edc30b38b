"""`python -m skyfan_compose COMMAND …`: a `skyfan` command, as the user who called `docker compose`."""

from skyfan_compose.buckets import make_buckets
from skyfan_compose.caller import act_as_caller


def main() -> None:
    """Gives up root, where the container has it, before anything else; then runs the command."""
    act_as_caller()
    make_buckets()
    from skyfan.cli import main as skyfan

    skyfan()


if __name__ == "__main__":
    main()
