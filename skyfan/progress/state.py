"""How far a run is, from its events."""

import time
from dataclasses import dataclass, field

from skyfan.events import (
    Event,
    FilesRead,
    MapProgress,
    PhaseStarted,
    Planned,
    RankCommitted,
    RankFailed,
    RankProgress,
    RankRetried,
)
from skyfan.job import AUTO_SIZE, DEFAULT_PARTITION_BYTES
from skyfan.planning import Plan
from skyfan.units import counted, format_duration, format_size


@dataclass
class RunState:
    """Counts of a run in progress. Samples and ranks of an earlier start count as done, but not into the rate."""

    phase: str = "starting"
    ranks: int = 0
    ranks_done: int = 0
    samples: int = 0
    reused_samples: int = 0
    files: FilesRead | None = None
    map: MapProgress | None = None
    _done: dict[int, int] = field(default_factory=dict)
    _began_s: float = field(default_factory=time.monotonic)
    _phase_began_s: float = field(default_factory=time.monotonic)

    def update(self, event: Event) -> None:
        """Takes in one event."""
        match event:
            case PhaseStarted(name):
                self.phase, self._phase_began_s, self.files = name, time.monotonic(), None
            case FilesRead():
                self.files = event
            case Planned(plan, committed):
                self.ranks, self.ranks_done = len(plan.working_ranks), len(committed)
                self.samples, self.reused_samples = plan.samples, event.reused_samples
                self._began_s = time.monotonic()
            case RankProgress(rank, done, _):
                self._done[rank] = done
            case RankCommitted(rank, record):
                self._done[rank] = record.samples
                self.ranks_done += 1
            case RankRetried(rank) | RankFailed(rank):
                self._done.pop(rank, None)
            case MapProgress():
                self.map = event

    @property
    def fresh_samples(self) -> int:
        """Samples that this start has computed; estimated from whole ranks where a map reports no more."""
        if self.map is None:
            return sum(self._done.values())
        counts = self.map
        all_ranks = counts.pending + (counts.running or 0) + counts.succeeded + counts.failed
        return (self.samples - self.reused_samples) * counts.succeeded // max(1, all_ranks)

    @property
    def samples_done(self) -> int:
        """Samples that have a result, those of an earlier start too."""
        return self.reused_samples + self.fresh_samples

    def line(self) -> str:
        """The state as one line."""
        if not self.ranks or self.phase != "inferring":
            # The page is drawn after the summary's times are taken: they must not seem to be these.
            drawing = " and drawing the report" if self.phase == "aggregating" else ""
            return f"{self.phase_line()}{drawing}, {format_duration(time.monotonic() - self._phase_began_s)}"
        return f"{self.ranks_line()}, {self.samples_done:,} of {self.samples:,} samples{self.rate_line()}"

    def phase_line(self) -> str:
        """The phase, and how many of the dataset's files it has read."""
        if self.files is None:
            return self.phase
        if self.files.total is None:
            return f"{self.phase}, {counted(self.files.done, 'file')} listed"
        return f"{self.phase}, {self.files.done:,} of {counted(self.files.total, 'file')} read"

    def ranks_line(self) -> str:
        """Ranks that are done, and how the others stand where a map tells."""
        if self.map is None:
            return f"ranks {self.ranks_done}/{self.ranks}"
        counts = self.map
        failed = f", {counts.failed} failed" if counts.failed else ""
        running = "" if counts.running is None else f", {counts.running} running"
        return f"ranks {self.ranks_done + counts.succeeded}/{self.ranks} ({counts.pending} pending{running}{failed})"

    def rate_line(self) -> str:
        """Throughput, time left and cost so far, as far as they are known; begins with a comma."""
        elapsed_s = time.monotonic() - self._began_s
        fresh = self.fresh_samples
        parts = []
        if fresh and elapsed_s > 0:
            left = self.samples - self.samples_done
            parts.append(f"{fresh / elapsed_s:,.0f} samples/s")
            if left:
                parts.append(f"{format_duration(left / fresh * elapsed_s)} left")
        if self.map is not None and self.map.cost_usd is not None:
            parts.append(f"${self.map.cost_usd:.4f} so far")
        return "".join(f", {part}" for part in parts)


def plan_sentence(planned: Planned) -> str:
    """What a run will compute, in one sentence."""
    plan, committed = planned.plan, len(planned.committed_ranks)
    again = f", {committed:,} reused" if committed else ""
    size = f" of about {format_size(plan.rank_bytes)} for a GPU" if plan.rank_bytes else ""
    return (
        f"run {plan.run_id}: {plan.samples:,} samples, {format_size(plan.data_bytes)}, "
        f"{counted(plan.partitions, 'partition')}, {counted(len(plan.working_ranks), 'rank')}{size}{again}"
    )


def size_sentence(plan: Plan) -> str:
    """How large partitions or ranks are, and why."""
    if plan.rank_bytes:
        size = format_size(plan.rank_bytes)
        return f"Ranks of about {size}, as a GPU computes them; --partition-size or --world-size takes others."
    if plan.job.partition_size == AUTO_SIZE:
        return f"Partitions of about {format_size(DEFAULT_PARTITION_BYTES)}, the default where no GPU computes them."
    size_bytes = plan.job.partition_size_bytes
    return "A partition a file, as asked for." if size_bytes is None else f"Partitions of {format_size(size_bytes)}."
