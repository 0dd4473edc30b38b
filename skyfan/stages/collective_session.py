"""A rank's part in the collectives of its run: a start barrier, and an exchange of results after the commit.

Nothing that happens to other ranks, the rendezvous service or the network may cost this rank its predictions: it then
goes on alone, and its record says why. Every wait has a deadline, which is shorter where the caller would kill us.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from skyfan.comm import MAX, SUM, Communicator, connect, custom
from skyfan.comm.rank_group import RankGroup
from skyfan.errors import SkyfanError
from skyfan.records import Collectives, RankRecord, TimeOverRanks
from skyfan.rpc.credentials import shared_token
from skyfan.rpc.service_token import fetch_service_token
from skyfan.science.metrics import as_json, merge_sums, metrics_of_sums
from skyfan.stages.messages import InferRequest

# Until all ranks have loaded their models: longer than a thousand functions take to start, by Lambda's 1,000 a 10 s.
START_TIMEOUT_S = 60.0
# Until the slowest rank has committed. A rank that died is known at once; this is for those that are merely slow.
END_TIMEOUT_S = 300.0
# Of the time that the caller gives: a quarter at most for waiting at the start, and enough left to say how it ended.
START_SHARE = 0.25
END_MARGIN_S = 10.0
_LEAST_S = 0.1
# Keys of the rank record that are compared over ranks.
TIMES = ("wall_s", "load_s", "read_s", "wait_s", "compute_s", "write_s")

_MERGE = custom(merge_sums, commutative=True, associative=True)


class Meeting:
    """One rank among the others of its start. `outcome` is what its record says; None where there is no group.

    A context manager: leaving it by an error tells the others at once that this rank gives up.
    """

    def __init__(self, request: InferRequest, remaining_s: Callable[[], float] | None) -> None:
        self._group, self._run_id, self._output = request.group, request.run_id, request.job.output
        self._rank = request.item.rank
        self._remaining_s = remaining_s or (lambda: float("inf"))
        self._ranks: Communicator | None = None
        self._log = structlog.get_logger("executor")
        self.outcome: Collectives | None = None
        if group := self._group:
            self.outcome = Collectives(
                state="started", group=group.name, members=group.members, place=group.place, channel=group.channel
            )

    def start(self) -> None:
        """Waits until all ranks are here and says how far apart they came."""
        if self._group is None:
            return
        left_s = _countdown(min(START_TIMEOUT_S, START_SHARE * self._remaining_s()))
        began = time.monotonic()
        skew_s = 0.0
        with self._alone_if_it_fails():
            if self._group.members > 1:
                self._ranks = self._connect(self._group, left_s())
                self._ranks.barrier(timeout_s=left_s())
                # All are let go at one moment: who waited longer came earlier. So no two clocks are compared.
                waited_s = time.monotonic() - began
                longest, shortest = self._ranks.allreduce(np.array([waited_s, -waited_s]), MAX, timeout_s=left_s())
                skew_s = float(longest + shortest)
            self._note(start_s=time.monotonic() - began, launch_skew_s=skew_s)

    def end(self, sums: NDArray[np.float64], record: RankRecord) -> None:
        """Puts the ranks' science sums and times together; waits for the slowest rank, within the deadline."""
        if self.outcome is None or self.outcome.state != "started":
            return
        left_s = _countdown(min(END_TIMEOUT_S, self._remaining_s() - END_MARGIN_S))
        began = time.monotonic()
        with self._alone_if_it_fails():
            mine = np.array([getattr(record, name) for name in TIMES])
            ranks = self._ranks
            whole = ranks.allreduce(sums, _MERGE, timeout_s=left_s()) if ranks else sums
            total = ranks.reduce(mine, SUM, timeout_s=left_s()) if ranks else mine
            most = ranks.reduce(mine, MAX, timeout_s=left_s()) if ranks else mine
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

    def _connect(self, group: RankGroup, limit_s: float) -> Communicator:
        fetch_service_token()
        return connect(
            group.place,
            group.members,
            run=self._run_id,
            group=group.name,
            channel=group.channel,
            rendezvous=group.rendezvous,
            store=None if group.rendezvous else self._output,
            token=group_token(self._run_id, group.name),
            join_timeout_s=limit_s,
        )

    @contextmanager
    def _alone_if_it_fails(self) -> Iterator[None]:
        """Any error inside ends this rank's part, and nothing else."""
        try:
            yield
        # Whatever others sent or the network did: it is logged and recorded, and costs this rank nothing.
        except Exception as error:  # noqa: BLE001
            assert self.outcome is not None
            at = self.outcome.place
            place = "" if at == self._rank else f" (ranks by their place in the group; rank {self._rank} has {at})"
            self._log.warning("collectives failed, this rank goes on alone", error=str(error))
            self._note(state="failed", error=f"{type(error).__name__}: {error}{place}")
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        ranks, self._ranks = self._ranks, None
        if ranks is not None:
            with suppress(SkyfanError, OSError):  # whoever cannot be told has a deadline
                ranks.close(failed=error)

    def _note(self, **what: object) -> None:
        assert self.outcome is not None
        self.outcome = self.outcome.model_copy(update=what)


def group_token(run_id: str, name: str) -> str:
    """The group's secret, which so need not travel: whoever has the services' token can make it.

    Where SKYFAN_TOKEN is not set, everybody who reaches the services may call them, and may join, too.
    """
    key = shared_token().encode()
    return hmac.new(key, f"{run_id}/{name}".encode(), hashlib.sha256).hexdigest()


def _countdown(limit_s: float) -> Callable[[], float]:
    """Seconds that are left of `limit_s`, from now on, over several waits; never less than a moment."""
    end = time.monotonic() + limit_s
    return lambda: max(_LEAST_S, end - time.monotonic())


def _over_ranks(
    total: NDArray[np.float64] | None, most: NDArray[np.float64] | None, members: int
) -> dict[str, TimeOverRanks] | None:
    """Mean and maximum of every time, at the rank that was given them."""
    if total is None or most is None:
        return None
    return {
        name: TimeOverRanks(mean_s=float(total[number]) / members, max_s=float(most[number]))
        for number, name in enumerate(TIMES)
    }
