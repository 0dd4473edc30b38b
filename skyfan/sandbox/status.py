"""What of the sandbox this machine can do, found out by trying it in a child."""

import errno
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from skyfan.sandbox.child import ChildDied, Limits, run_in_child
from skyfan.sandbox.landlock import landlock_version

_PROBE_DEADLINE_S = 20
_DISCARD = ("127.0.0.1", 9)  # the discard service, which nobody runs


@dataclass(frozen=True)
class SandboxStatus:
    """Whether a child is kept from writing, from starting programs and from the network, and by which Landlock."""

    landlock: int
    writes_confined: bool
    network_closed: bool


def sandbox_status() -> SandboxStatus:
    """Tries it in a child, which takes about half a second."""
    with tempfile.TemporaryDirectory(prefix="skyfan-") as outside:
        try:
            found = run_in_child(f"{__name__}:probe", outside.encode(), Limits(_PROBE_DEADLINE_S))
        except ChildDied:
            return SandboxStatus(landlock_version(), writes_confined=False, network_closed=False)
    return SandboxStatus(landlock_version(), found["writes_confined"], found["network_closed"])


def probe(folder: bytes) -> dict[str, bool]:
    """In the child: whether a file in another's folder can be written, and whether anything can be connected to."""
    try:
        Path(folder.decode(), "written").write_bytes(b"")
        confined = False
    except PermissionError:
        confined = True
    with socket.socket() as tried:
        tried.settimeout(1)
        code = tried.connect_ex(_DISCARD)
    return {"writes_confined": confined, "network_closed": code not in (0, errno.ECONNREFUSED)}
