"""What happens in a run, as values for anyone who shows or logs it."""

from collections.abc import Callable
from dataclasses import dataclass

from skyfan.planning import Plan
from skyfan.records import RankRecord

Progress = Callable[[int, int], None]
"""Shows how far a long task is: called with (steps done, steps in all)."""


def unwatched(_done: int, _total: int) -> None:
    """The progress of a task that nobody watches."""


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """`starting`, `uploading`, `preparing`, `planning`, `converting`, `inferring` or `aggregating`."""

    name: str


@dataclass(frozen=True, slots=True)
class ExecutionStarted:
    """The run is an execution elsewhere, which goes on without this process.

    `stop_command` ends it; `console_url` is where a person looks at it, None where there is no console.
    """

    name: str
    stop_command: str
    console_url: str | None


@dataclass(frozen=True, slots=True)
class Warned:
    """What the user should know before ranks begin, as one sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class FilesRead:
    """`done` of the dataset's `total` files are read for the plan; None while they are still being listed."""

    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan is written; `committed_ranks` are reused."""

    plan: Plan
    committed_ranks: tuple[int, ...]

    @property
    def reused_samples(self) -> int:
        """Samples of the ranks that are reused."""
        return sum(span.samples for rank in self.committed_ranks for span in self.plan.ranks[rank])


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
    """Ranks by state, and what they cost up to now; None: not known. `failed` counts ranks given up."""

    pending: int
    running: int | None
    succeeded: int
    failed: int
    cost_usd: float | None


Event = (
    PhaseStarted
    | ExecutionStarted
    | Warned
    | FilesRead
    | Planned
    | RankProgress
    | RankCommitted
    | RankRetried
    | RankFailed
    | MapProgress
)
Listener = Callable[[Event], None]


def counting(listener: Listener) -> Callable[[int, int | None], None]:
    """Tells the listener how many of the dataset's files are listed or read."""
    return lambda done, total: listener(FilesRead(done, total))
