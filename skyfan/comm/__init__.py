"""Messages and collectives between the ranks of a run, wherever they are.

    from skyfan import comm

    with comm.connect(rank, world_size, run=run_id, rendezvous="host:50054", token=secret) as ranks:
        ranks.barrier()
        total = ranks.allreduce(partial_sums, "sum")

See docs/explanation/communication.md for protocol, algorithms, limits and security.
"""

from skyfan.comm.communicator import Communicator
from skyfan.comm.connect import connect
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
from skyfan.comm.model import Choice, choose
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
