"""Where a job runs: one class a target, chosen by name when the run starts."""

from skyfan.backends.base import Target
from skyfan.errors import BadInput

TARGETS = ("process", "local", "compose")


def create_target(
    name: str, *, workers: int | None = None, collectives: bool = False, device: str | None = None
) -> Target:
    """The target called `name`; enter it (`async with`) to start its services.

    `collectives`: its ranks will meet. `device`: what executors that it starts compute on.
    """
    if name == "process":
        from skyfan.backends.process import ProcessTarget

        return ProcessTarget(device)
    if name == "local":
        from skyfan.backends.local import LocalTarget

        return LocalTarget(workers=workers, collectives=collectives, device=device)
    if name == "compose":
        if device is not None:
            raise BadInput("--device is for process and local; set SKYFAN_DEVICE of the executors' containers instead.")
        from skyfan.backends.compose import ComposeTarget

        return ComposeTarget(workers=workers)
    raise BadInput(f"--on {name} is not a target; choose one of {', '.join(TARGETS)}, localstack, aws.")


__all__ = ["TARGETS", "Target", "create_target"]
