"""The ranks of one start of a run that talk to each other (`--collectives`): who they are, and whether they can.

A group is the ranks that one start of a run computes: all of them, or after a resume those that were missing. It has a
name of its own, so that no rank of another start is taken for one of these. Ranks are numbered by their place in the
group. Through the rendezvous service where there is one, else through the run's own folder: the messages are few and
tiny, so that neither connecting every pair (the direct channel) nor starting a server for them would pay.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from skyfan.errors import BadInput

Channel = Literal["relay", "store"]

# The rendezvous service's own default (services/rendezvous/limits.py). Every rank looks into the folder several times a
# second until all are there: 256 ranks list it 20,000 times (S3: $0.10) while functions start for 20 s.
MAX_MEMBERS: dict[Channel, int] = {"relay": 1024, "store": 256}


class RankGroup(BaseModel):
    """The group as one of its ranks knows it; `rendezvous` is None where messages go through the run's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="unique to this start of the run")
    members: int = Field(ge=1)
    place: int = Field(default=0, ge=0)
    rendezvous: str | None = None

    @property
    def channel(self) -> Channel:
        """How messages travel."""
        return "relay" if self.rendezvous else "store"


def form_group(name: str, members: int, *, at_once: int | None, more: str, rendezvous: str | None) -> RankGroup:
    """The group of a start with `members` ranks, of which the target runs `at_once` (None: no limit) side by side.

    Raises:
        BadInput: ranks would wait for others that cannot begin before these end; `more` says how to have `{ranks}` of
            them at once.
    """
    group = RankGroup(name=name, members=max(1, members), rendezvous=rendezvous)
    if at_once is not None and members > at_once:
        raise BadInput(
            f"--collectives needs all {members} ranks of this run at once, and only {at_once} can run here at once: "
            f"{more.format(ranks=members)}, or make fewer ranks (--world-size, --partition-size)."
        )
    if members > MAX_MEMBERS[group.channel]:
        other = "" if rendezvous else f", or deploy the rendezvous service, which takes {MAX_MEMBERS['relay']:,}"
        raise BadInput(
            f"--collectives is for at most {MAX_MEMBERS[group.channel]:,} ranks over the {group.channel} channel, and "
            f"this run has {members:,}: make fewer (--world-size, --partition-size){other}."
        )
    return group
