"""The ranks of one start of a run that exchange messages (`--collectives`): the group, and whether it can form.

A group is the ranks that one start of a run computes: all of them, or after a resume those that were missing. Its name
is used by no other start, so that a rank of an earlier start cannot join it. Ranks of a group are numbered from 0
(`group_rank`). Messages go through the rendezvous service where there is one, else through the run's folder: they are
few and small, so that neither connecting every pair (the direct channel) nor starting a server for them would pay.
"""

import hashlib
import hmac
from typing import Literal

from pydantic import Field

from skyfan.errors import BadInput
from skyfan.rpc.service_token import shared_token
from skyfan.validation import Frozen

Channel = Literal["relay", "store"]

# relay: the rendezvous service's own default (skyfan/comm/rendezvous/limits.py). store: every rank lists the folder
# several times a second until all are there; 256 ranks list it 20,000 times (S3: $0.10) while functions start for 20 s.
MAX_MEMBERS: dict[Channel, int] = {"relay": 1024, "store": 256}


class RankGroup(Frozen):
    """The group as one of its ranks knows it; `rendezvous` is None where messages go through the run's folder."""

    name: str = Field(min_length=1, description="unique to this start of the run")
    members: int = Field(ge=1, description="number of ranks in the group")
    group_rank: int = Field(default=0, ge=0, description="this rank's number in the group")
    rendezvous: str | None = Field(default=None, description="HOST:PORT of the rendezvous service")

    @property
    def channel(self) -> Channel:
        """How messages travel."""
        return "relay" if self.rendezvous else "store"


def form_group(
    name: str, members: int, *, max_concurrency: int | None, scale_up_hint: str, rendezvous: str | None
) -> RankGroup:
    """The group of one start of a run.

    Args:
        name: unique to this start.
        members: number of ranks that the start computes.
        max_concurrency: number of ranks that the backend runs at the same time; None for no limit.
        scale_up_hint: how to have `{ranks}` of them at the same time, for the error message.
        rendezvous: HOST:PORT of the rendezvous service, or None to exchange messages through the run's folder.

    Returns:
        The group with `group_rank` 0; each rank is sent a copy with its own number.

    Raises:
        BadInput: ranks would wait for others that cannot begin before these end, or the channel does not take that
            many ranks.
    """
    group = RankGroup(name=name, members=max(1, members), rendezvous=rendezvous)
    if max_concurrency is not None and members > max_concurrency:
        raise BadInput(
            f"--collectives needs all {members} ranks of this run at once, and only {max_concurrency} can run here at "
            f"once: {scale_up_hint.format(ranks=members)}, or make fewer ranks (--world-size, --partition-size)."
        )
    if members > MAX_MEMBERS[group.channel]:
        other = "" if rendezvous else f", or deploy the rendezvous service, which takes {MAX_MEMBERS['relay']:,}"
        raise BadInput(
            f"--collectives is for at most {MAX_MEMBERS[group.channel]:,} ranks over the {group.channel} channel, and "
            f"this run has {members:,}: make fewer (--world-size, --partition-size){other}."
        )
    return group


def group_token(run: str, group: str) -> str:
    """The secret of a group, in hex: HMAC-SHA-256 of its name, keyed by the services' token (`SKYFAN_TOKEN`).

    So it need not be sent: every process that has the services' token can derive it. Where `SKYFAN_TOKEN` is not set,
    anyone who can reach the services may call them, and may join a group, too.
    """
    key = shared_token().encode()
    return hmac.new(key, f"{run}/{group}".encode(), hashlib.sha256).hexdigest()
