"""A rank's part in the collectives of its run: a start barrier, and an exchange of results after the commit.

No failure of other ranks, the rendezvous service or the network costs this rank its predictions: it then goes on
alone, and its record has the reason. Every wait has a deadline, which is shorter where the caller would end the process
sooner, and ends when the caller stops the rank.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from skyfan.comm.rank_group import RankGroup, group_token
from skyfan.comm.waiting import countdown
from skyfan.errors import Interrupted, SkyfanError
from skyfan.records import Collectives, RankRecord, TimeOverRanks
from skyfan.rpc.service_token import fetch_service_token
from skyfan.science.metrics import as_json, merge_sums, metrics_of_sums
from skyfan.stages.messages import InferRequest

if TYPE_CHECKING:
    from skyfan.comm import Communicator

# Until all ranks have loaded their models: longer than a thousand functions take to start, at Lambda's 1,000 each 10 s.
START_TIMEOUT_S = 60.0
# Until the slowest rank has committed. The loss of a rank is known at once; this limit is for slow ones.
END_TIMEOUT_S = 300.0
# Of the time that the caller gives: at most a quarter for the start barrier; the margin is for writing the record.
START_SHARE = 0.25
END_MARGIN_S = 10.0
_LEAST_S = 0.1
# Keys of the rank record that are compared over ranks.
TIMES = ("wall_s", "load_s", "read_s", "wait_s", "compute_s", "write_s")


class CollectiveSession:
    """One rank's collectives with the other ranks of this start, as a context manager.

    If an error leaves the `with` block, the other ranks are told at once that this rank gives up.

    Args:
        request: names the rank and its group; without a group nothing is exchanged.
        remaining_s: seconds until the caller would end this process; None where nothing does.
        cancelled: set by the caller to stop the rank; every wait then ends within a second.

    Attributes:
        outcome: what the rank's record holds about the collectives; None where there is no group.
    """

    def __init__(
        self,
        request: InferRequest,
        remaining_s: Callable[[], float] | None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._group, self._run_id, self._output = request.group, request.run_id, request.job.output
        self._rank = request.item.rank
        self._remaining_s = remaining_s or (lambda: float("inf"))
        self._cancelled = cancelled or threading.Event()
        self._ranks: Communicator | None = None
        self._log = structlog.get_logger("executor")
        self.outcome: Collectives | None = None
        if group := self._group:
            self.outcome = Collectives(
                state="started",
                group=group.name,
                members=group.members,
                group_rank=group.group_rank,
                channel=group.channel,
            )

    def start(self) -> None:
        """Wait until all ranks have started, and note the seconds between the first and the last.

        Raises:
            Interrupted: the caller stopped this rank.
        """
        if self._group is None:
            return
        left_s = countdown(min(START_TIMEOUT_S, START_SHARE * self._remaining_s()), _LEAST_S)
        began = time.monotonic()
        skew_s = 0.0
        with self._going_on_alone():
            if self._group.members > 1:
                self._ranks = self._connect(self._group, left_s())
                self._ranks.barrier(timeout_s=left_s())
                # All ranks leave the barrier at one moment, so that the longest wait was the first rank's; clocks of
                # different machines are not compared.
                waited_s = time.monotonic() - began
                extremes = np.array([waited_s, -waited_s])
                longest, shortest = self._ranks.allreduce(extremes, "max", timeout_s=left_s())
                skew_s = float(longest + shortest)
            self._note(start_s=time.monotonic() - began, launch_skew_s=skew_s)
        if self._cancelled.is_set():
            raise Interrupted(f"rank {self._rank} was stopped while it waited for the other ranks.")

    def end(self, sums: NDArray[np.float64], record: RankRecord) -> None:
        """Combine the ranks' science sums (see `skyfan.science.metrics`) and times; waits for the slowest rank.

        It does not raise: the predictions are committed, and what failed is in `outcome`.
        """
        if self.outcome is None or self.outcome.state != "started":
            return
        left_s = countdown(min(END_TIMEOUT_S, self._remaining_s() - END_MARGIN_S), _LEAST_S)
        began = time.monotonic()
        with self._going_on_alone():
            mine = np.array([getattr(record, name) for name in TIMES])
            ranks = self._ranks
            whole = _merged(ranks, sums, left_s()) if ranks else sums
            total = ranks.reduce(mine, "sum", timeout_s=left_s()) if ranks else mine
            most = ranks.reduce(mine, "max", timeout_s=left_s()) if ranks else mine
            self._note(
                state="complete",
                end_s=time.monotonic() - began,
                science=as_json(metrics_of_sums(whole)),
                times=_over_ranks(total, most, self.outcome.members),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _connect(self, group: RankGroup, limit_s: float) -> "Communicator":
        from skyfan.comm import connect

        fetch_service_token()
        return connect(
            group.group_rank,
            group.members,
            run=self._run_id,
            group=group.name,
            channel=group.channel,
            rendezvous=group.rendezvous,
            store=None if group.rendezvous else self._output,
            token=group_token(self._run_id, group.name),
            join_timeout_s=limit_s,
            cancelled=self._cancelled,
        )

    @contextmanager
    def _going_on_alone(self) -> Iterator[None]:
        """An error inside ends this rank's collectives, and nothing else: it is logged and noted in `outcome`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever other ranks sent, this rank's predictions stand)
            assert self.outcome is not None
            number = self.outcome.group_rank
            which = "" if number == self._rank else f" (numbers are group ranks; rank {self._rank} is {number})"
            self._log.warning("collectives failed, this rank goes on alone", error=str(error))
            self._note(state="failed", error=f"{type(error).__name__}: {error}{which}")
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        ranks, self._ranks = self._ranks, None
        if ranks is not None:
            with suppress(SkyfanError, OSError):  # ranks that cannot be told have deadlines
                ranks.close(failed=error)

    def _note(self, **what: object) -> None:
        assert self.outcome is not None
        self.outcome = self.outcome.model_copy(update=what)


def _over_ranks(
    total: NDArray[np.float64] | None, most: NDArray[np.float64] | None, members: int
) -> dict[str, TimeOverRanks] | None:
    """Mean and maximum of every time, on the rank that has them; None on the others."""
    if total is None or most is None:
        return None
    return {
        name: TimeOverRanks(mean_s=float(total[number]) / members, max_s=float(most[number]))
        for number, name in enumerate(TIMES)
    }


def _merged(ranks: "Communicator", sums: NDArray[np.float64], timeout_s: float) -> NDArray[np.float64]:
    from skyfan.comm import custom

    return ranks.allreduce(sums, custom(merge_sums, commutative=True, associative=True), timeout_s=timeout_s)
