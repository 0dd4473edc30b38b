"""Which cells there are."""

from dataclasses import dataclass

# What the run's events tell: the beginning of a phase, samples of a rank, and a commit.
MOMENTS = ("preparing", "planning", "converting", "inferring", "within", "committed", "aggregating")
_ELSEWHERE = ("planning", "inferring", "committed", "aggregating")

PROCESS_FAULTS = (
    "kill",
    "interrupt",
    "stop",
    "memory",
    "disk",
    "descriptors",
    "clock-back",
    "clock-forward",
    "duplicate",
    "zombie",
    "data-gone",
    "data-cut",
)
LOCAL_FAULTS = (
    "kill",
    "interrupt",
    "kill-partitioner",
    "kill-aggregator",
    "kill-executor",
    "kill-executors",
    "stop-executor",
)
# `tests.store.faulty_proxy` does them.
S3_FAULTS = ("503", "reset", "lost", "short", "cut", "409", "412", "403", "elsewhere", "hang")


@dataclass(frozen=True)
class Cell:
    """One fault at one moment of a run on one target; everything on `s3` runs in one process, too."""

    target: str
    fault: str
    moment: str

    def __str__(self) -> str:
        return f"{self.target}/{self.fault}/{self.moment}"


def all_cells() -> list[Cell]:
    """All that need no container."""
    return [
        *(Cell("process", fault, moment) for fault in PROCESS_FAULTS for moment in MOMENTS),
        *(Cell("s3", fault, moment) for fault in S3_FAULTS for moment in _ELSEWHERE),
        *(Cell("local", fault, moment) for fault in LOCAL_FAULTS for moment in _ELSEWHERE),
    ]


_SHORT = """
process/kill/committed process/interrupt/aggregating process/zombie/within process/duplicate/planning
process/disk/inferring process/clock-back/committed process/data-cut/committed s3/503/inferring
s3/lost/committed s3/409/committed local/kill-aggregator/aggregating local/kill-executor/committed
"""


def short_cells() -> list[Cell]:
    """One or two of each kind, for every change."""
    return [Cell(*name.split("/")) for name in _SHORT.split()]
