"""What a rank of `skyfan comm check` is asked and what it reports; servers read these without the check itself."""

from pydantic import BaseModel, Field


class RankCheck(BaseModel):
    """One rank's part of a check.

    `token` is the group's secret; without one the rank derives it from the services' token (`group_token`).
    """

    rank: int
    world_size: int
    run: str
    channel: str
    rendezvous: str | None = None
    token: str | None = Field(default=None, repr=False)
    store: str | None = None
    join_timeout_s: float = 60.0
    budget_s: float = 14.0


class PingPong(BaseModel):
    """Half a round trip between ranks 0 and 1; medians."""

    size_bytes: int
    latency_s: float
    bandwidth_bytes_per_s: float
    repetitions: int


class CollectiveTime(BaseModel):
    """The slowest rank's time; median over repetitions."""

    name: str
    size_bytes: int
    time_s: float
    repetitions: int


class RankReport(BaseModel):
    """What one rank measured. `joined_at` is Unix time; ping-pong and collectives are filled in by rank 0."""

    rank: int
    channel: str
    why: str
    joined_at: float
    connect_s: float
    formation_s: float
    paths: dict[int, str]
    ping_pong: list[PingPong] = []
    collectives: list[CollectiveTime] = []
