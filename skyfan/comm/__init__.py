"""Messages and collectives between the ranks of a run, wherever they are.

    from skyfan import comm

    with comm.connect(rank, world_size, run=run_id, rendezvous="host:50054", token=secret) as ranks:
        ranks.barrier()
        total = ranks.allreduce(partial_sums, "sum")

See docs/explanation/communication.md for protocol, algorithms, limits and security.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skyfan.comm.channel_choice import Choice, choose
    from skyfan.comm.communicator import Communicator
    from skyfan.comm.connection import connect
    from skyfan.comm.errors import (
        CollectiveMismatch,
        CommError,
        CommTimeout,
        GroupIncomplete,
        GroupLimit,
        GroupRefused,
        PeerLost,
        RendezvousLost,
    )
    from skyfan.comm.reduction import MAX, MEAN, MIN, PROD, SUM, Reduction, custom

__all__ = [
    "MAX",
    "MEAN",
    "MIN",
    "PROD",
    "SUM",
    "Choice",
    "CollectiveMismatch",
    "CommError",
    "CommTimeout",
    "Communicator",
    "GroupIncomplete",
    "GroupLimit",
    "GroupRefused",
    "PeerLost",
    "Reduction",
    "RendezvousLost",
    "choose",
    "connect",
    "custom",
]

# Imported when they are first used (PEP 562): most ranks talk to no other.
_MODULES = ("errors", "channel_choice", "reduction", "communicator", "connection")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = getattr(importlib.import_module(f"skyfan.comm.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
