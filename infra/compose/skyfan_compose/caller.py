"""Who called, so that results on the host belong to them and not to root.

A container does not know who started it. `HOST_UID` and `HOST_GID` say it; without them it is the user who owns the
compose.yaml that is mounted at `/skyfan/compose.yaml`: the owner of the clone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

CLONE = Path("/skyfan/compose.yaml")
RUNS = Path("/skyfan/runs")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user and a group of the host."""

    uid: int
    gid: int


def act_as_caller() -> None:
    """Gives up root, where the container has it; the runs folder is the caller's from then on."""
    if os.getuid() == 0 and CLONE.exists():
        caller = find_caller()
        give_folder(caller)
        become(caller)


def find_caller() -> Caller:
    """Who is named in the environment, or else the owner of the clone."""
    owner = CLONE.stat()
    return Caller(_number("HOST_UID", owner.st_uid), _number("HOST_GID", owner.st_gid))


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "")
    if text and not text.isdecimal():
        raise SystemExit(f"skyfan: {variable} is {text!r}; give a number, such as the one that `id` prints.")
    return int(text) if text else otherwise


def give_folder(caller: Caller) -> None:
    """Gives the runs folder to the caller if it is root's: Docker made it then, because it was not there."""
    if RUNS.stat().st_uid == 0:
        os.chown(RUNS, caller.uid, caller.gid)


def become(caller: Caller) -> None:
    """Is this user from now on; where it is not root, the kernel drops every capability."""
    os.setgroups([])
    os.setgid(caller.gid)
    os.setuid(caller.uid)
