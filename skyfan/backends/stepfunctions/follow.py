"""Follow an execution to its end: look, tell the listener, wait a little longer each time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skyfan import store
from skyfan.backends.stepfunctions.access import Access, aws_errors
from skyfan.backends.stepfunctions.meter import CostMeter
from skyfan.errors import DeadlineExceeded, Transient
from skyfan.events import Listener, MapProgress, PhaseStarted, Planned
from skyfan.job import LAMBDA, Compute
from skyfan.runs.commit import RunLedger
from skyfan.runs.folder import RunFolder
from skyfan.serving.array_jobs import start_of
from skyfan.stages.items import ranks_to_compute

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, MapRunItemCountsTypeDef

# An execution of the pipeline ends after a day at the latest (execution_timeout_s in docs/how-to/step-functions.md).
FOLLOW_DEADLINE_S = 25 * 3600.0
# How long Step Functions may be out of reach: a laptop may sleep or change networks, the execution goes on.
UNREACHABLE_DEADLINE_S = 600.0
_FIRST_LOOK_S, _LONGEST_LOOK_S, _LONGER = 0.3, 4.0, 1.3


@dataclass
class Follower:
    """Looks at one execution until it ends."""

    access: Access
    execution_arn: str
    output: str
    meter: CostMeter
    listener: Listener
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    compute: Compute = LAMBDA
    _phase: str = ""
    _map_run_arn: str | None = None
    _shown: MapProgress | None = field(default=None)
    _planned: Planned | None = None

    def to_end(self, cancelled: Callable[[], bool] = lambda: False) -> "DescribeExecutionOutputTypeDef | None":
        """DescribeExecution once the status is no longer RUNNING; None when `cancelled` was true before that.

        Raises:
            DeadlineExceeded: it runs longer than the pipeline may.
            Transient: Step Functions was out of reach for ten minutes; the execution goes on.
        """
        last_heard_s = self.clock()
        for pause_s in _pauses(self.clock):
            try:
                found = self._look()
            except Transient as error:
                if self.clock() - last_heard_s > UNREACHABLE_DEADLINE_S:
                    raise Transient(f"{error} Execution {self.execution_arn} goes on without us.") from error
            else:
                last_heard_s = self.clock()
                if found["status"] != "RUNNING":
                    return found
            self.sleep(pause_s)
            if cancelled():
                return None
        raise DeadlineExceeded(f"execution {self.execution_arn} runs for {FOLLOW_DEADLINE_S / 3600:.0f} h already.")

    def _look(self) -> "DescribeExecutionOutputTypeDef":
        with aws_errors(self.access.on, "look at the execution"):
            found = self.access.states.describe_execution(executionArn=self.execution_arn)
            if self.compute != LAMBDA:
                self._look_at_array()
                return found
            self._map_run_arn = self._map_run_arn or self._find_map_run()
            if self._map_run_arn is None:
                self._enter("preparing")
                return found
            run = self.access.states.describe_map_run(mapRunArn=self._map_run_arn)
        if self._phase in ("", "preparing"):
            self._tell_plan()
            self._enter("inferring")
        if run["itemCounts"]["total"]:  # none until the map has read its items
            self._tell_counts(run["itemCounts"])
        if run["status"] != "RUNNING":
            self._enter("aggregating")
        return found

    def _look_at_array(self) -> None:
        """Ranks on Batch or SageMaker are followed by what they commit; whether one is at work is not known here."""
        if self._planned is None:
            start = start_of(self.execution_arn.rpartition(":")[2])
            if not store.exists(RunFolder(self.output).start_uri(start)):
                self._enter("preparing")
                return
            self._planned = self._tell_plan()
            self._enter("inferring")
        plan, reused = self._planned.plan, len(self._planned.committed_ranks)
        total, committed = len(plan.working_ranks), len(RunLedger(self.output, plan.results_schema).committed_of(plan))
        self._tell(MapProgress(total - committed, None, committed - reused, 0, None))
        if committed == total:
            self._enter("aggregating")

    def _find_map_run(self) -> str | None:
        runs = self.access.states.list_map_runs(executionArn=self.execution_arn)["mapRuns"]
        return runs[0]["mapRunArn"] if runs else None

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self.listener(PhaseStarted(phase))

    def _tell_counts(self, counts: "MapRunItemCountsTypeDef") -> None:
        failed = counts["failed"] + counts["timedOut"] + counts["aborted"]
        ended = counts["succeeded"] + failed
        cost_usd = self.meter.cost_usd(counts["running"], ended, self.clock())
        self._tell(MapProgress(counts["pending"], counts["running"], counts["succeeded"], failed, cost_usd))

    def _tell(self, progress: MapProgress) -> None:
        if progress != self._shown:
            self._shown = progress
            self.listener(progress)

    def _tell_plan(self) -> Planned:
        """The ranks have begun, so the plan and the map's items lie in the run's folder."""
        folder = RunFolder(self.output)
        plan = folder.read_plan()
        to_run = ranks_to_compute(folder)
        planned = Planned(plan, tuple(rank for rank in plan.working_ranks if rank not in to_run))
        self.listener(planned)
        return planned


def _pauses(clock: Callable[[], float]) -> Iterator[float]:
    """Growing pauses, until the deadline."""
    deadline_s, pause_s = clock() + FOLLOW_DEADLINE_S, _FIRST_LOOK_S
    while clock() < deadline_s:
        yield pause_s
        pause_s = min(_LONGEST_LOOK_S, pause_s * _LONGER)
