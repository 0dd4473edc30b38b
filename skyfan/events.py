"""What happens in a run, as values for whoever shows or logs it."""

from collections.abc import Callable
from dataclasses import dataclass

from skyfan.records import RankRecord
from skyfan.stages.plan_messages import PlanReply


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """`starting`, `uploading`, `preparing`, `planning`, `inferring` or `aggregating`."""

    name: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan is written; ranks in `plan.committed_ranks` are reused."""

    plan: PlanReply
    reused_samples: int


@dataclass(frozen=True, slots=True)
class RankProgress:
    """`done` of `total` samples of a rank's present attempt."""

    rank: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RankCommitted:
    """A rank's predictions are in place."""

    rank: int
    record: RankRecord


@dataclass(frozen=True, slots=True)
class RankRetried:
    """An attempt was lost; the next one begins in `delay_s`."""

    rank: int
    attempt: int
    delay_s: float
    error: str


@dataclass(frozen=True, slots=True)
class RankFailed:
    """A rank is given up."""

    rank: int
    error: str


@dataclass(frozen=True, slots=True)
class MapProgress:
    """A Distributed Map's ranks by state, and what they cost up to now. `failed` counts ranks given up."""

    pending: int
    running: int
    succeeded: int
    failed: int
    cost_usd: float


Event = PhaseStarted | Planned | RankProgress | RankCommitted | RankRetried | RankFailed | MapProgress
Listener = Callable[[Event], None]
