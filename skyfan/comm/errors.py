"""What can go wrong between ranks.

    Transient
    ├── CommError                   a communicator failed; the run may be tried again with a new group
    │   ├── PeerLost                a rank died or stopped early; `.rank` is its number
    │   └── RendezvousLost          the rendezvous server went away while it was needed
    └── DeadlineExceeded
        ├── CommTimeout             an operation reached its deadline; `.ranks` are those waited for
        └── GroupIncomplete         the group was not full at its deadline; names the missing ranks
    BadInput
    ├── GroupRefused                wrong world size, rank, token, channel, or a group that is full or has ended
    ├── GroupLimit                  the rendezvous server's limits do not allow this group
    └── CollectiveMismatch          ranks called different operations, or passed different arrays

Each class travels by its name between server and ranks (see `skyfan.errors.by_name`).
"""

from collections.abc import Iterable

from skyfan.errors import BadInput, DeadlineExceeded, Transient


class CommError(Transient):
    """The communicator cannot be used any more."""

    cure = "Run again: the ranks form a new group."


class PeerLost(CommError):
    """A rank died, lost its connections or stopped before its part was done; `rank` is its number, where known."""

    cure = "See the log of the named rank for why it ended, then run again: the ranks form a new group."

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


class RendezvousLost(CommError):
    """The rendezvous server cannot be reached, and the channel needs it."""

    cure = "See whether the rendezvous server is up and reachable, or use --channel store."


class CommTimeout(DeadlineExceeded):
    """An operation reached its deadline; `ranks` are those whose messages were missing."""

    cure = "See the log of the ranks that were waited for; raise the time-out if they are slow."

    def __init__(self, message: str, ranks: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)


class GroupIncomplete(DeadlineExceeded):
    """Not all ranks joined before the group's deadline."""

    cure = "Start all ranks of the group within the join time-out; the message names those that were missing."


class GroupRefused(BadInput):
    """The rendezvous server does not admit this rank to the group."""

    cure = "Give all ranks of a group the same world size, token and channel, and a group name not used before."


class GroupLimit(BadInput):
    """The group would exceed a limit of the rendezvous server."""

    cure = "Use a smaller group, or raise the named SKYFAN_RENDEZVOUS_* variable of the server."


class CollectiveMismatch(BadInput):
    """The ranks of a group called different operations or passed arrays that do not fit together."""

    cure = "Call the same operations in the same order, with arrays of one shape and type, on all ranks."


def name_ranks(ranks: Iterable[int]) -> str:
    """`[3]` → "rank 3"; `[3, 5]` → "ranks 3, 5"; more than eight are counted."""
    listed = sorted(set(ranks))
    if len(listed) == 1:
        return f"rank {listed[0]}"
    shown = ", ".join(str(rank) for rank in listed[:8])
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return f"ranks {shown}{more}"
