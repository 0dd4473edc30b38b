"""What `skyfan comm check` measures on one rank: deployment latency, ping-pong and every collective.

`check_rank` is one rank's part, in a process, a container or a function. `python -m skyfan.comm.check_rank` takes its
`RankCheck` as JSON on standard input and writes its `RankReport` to standard output. The number of
repetitions follows from the time of the first one, so that a slow channel is measured in bounded time.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from skyfan.comm.check_messages import CollectiveTime, PingPong, RankCheck, RankReport
from skyfan.comm.communicator import Communicator
from skyfan.comm.connection import connect
from skyfan.comm.payloads import Array
from skyfan.comm.rank_group import group_token
from skyfan.errors import SkyfanError
from skyfan.plain_text import printable

GROUP = "check"
PING_BYTES = (8, 64, 512, 4096, 32 * 2**10, 256 * 2**10, 2 * 2**20, 16 * 2**20, 64 * 2**20)
COLLECTIVE_BYTES = (8, 2**20)
STORE_PING_MAX_BYTES = 2 * 2**20
STORE_COLLECTIVE_BYTES = (8, 64 * 2**10)
_MAX_REPETITIONS = 50
_WARM_UP = 2


def check_rank(work: RankCheck, cancelled: threading.Event | None = None) -> RankReport:
    """Join the group, measure, and leave; `cancelled` stops every wait for other ranks when it is set.

    Raises:
        SkyfanError: as `skyfan.comm.connect` and the operations of a communicator do.
    """
    started = time.monotonic()
    with connect(
        work.rank,
        work.world_size,
        run=work.run,
        group=GROUP,
        channel=work.channel,
        rendezvous=work.rendezvous,
        token=work.token or group_token(work.run, GROUP),
        store=work.store,
        join_timeout_s=work.join_timeout_s,
        cancelled=cancelled,
    ) as comm:
        report = RankReport(
            rank=work.rank,
            channel=comm.channel,
            why=comm.why,
            joined_at=time.time(),
            connect_s=time.monotonic() - started,
            formation_s=comm.formation_s,
            paths=comm.paths,
        )
        comm.barrier()
        if comm.world_size > 1:
            report.ping_pong = _ping_pong(comm, work.budget_s / 2)
        report.collectives = _collectives(comm, work.budget_s / 2)
    return report


def _ping_pong(comm: Communicator, budget_s: float) -> list[PingPong]:
    """Ranks 0 and 1 send an array back and forth; the others wait."""
    largest = STORE_PING_MAX_BYTES if comm.channel == "store" else PING_BYTES[-1]
    sizes = [size for size in PING_BYTES if size <= largest]
    found = []
    if comm.rank < 2:
        started = time.monotonic()
        for index, size in enumerate(sizes):
            left_s = budget_s - (time.monotonic() - started)
            times = _round_trips(comm, np.zeros(size, np.uint8), left_s / (len(sizes) - index))
            if not times:
                break
            if comm.rank:
                continue
            latency_s = statistics.median(times) / 2
            found.append(
                PingPong(
                    size_bytes=size,
                    latency_s=latency_s,
                    bandwidth_bytes_per_s=size / latency_s,
                    repetitions=len(times),
                )
            )
    comm.barrier()
    return found


def _answer(comm: Communicator) -> list[float]:
    """Rank 1's side: send back what arrives."""
    if not _number(comm.recv(0)):
        return []
    for _ in range(_WARM_UP):
        comm.send(comm.recv(0), 0)
    repetitions = int(_number(comm.recv(0)))
    for _ in range(repetitions):
        comm.send(comm.recv(0), 0)
    return [0.0] * repetitions


def _round_trips(comm: Communicator, data: Array, budget_s: float) -> list[float]:
    """Times of round trips, as rank 0 sees them; empty when the time is used up."""
    if comm.rank == 1:
        return _answer(comm)

    def trip() -> float:
        began = time.perf_counter()
        comm.send(data, 1)
        comm.recv(1)
        return time.perf_counter() - began

    comm.send(np.int64(budget_s > 0), 1)
    if budget_s <= 0:
        return []
    warm_s = min(trip() for _ in range(_WARM_UP))
    repetitions = max(1, min(_MAX_REPETITIONS, int(budget_s / warm_s) - _WARM_UP))
    comm.send(np.int64(repetitions), 1)
    return [trip() for _ in range(repetitions)]


def _number(value: object) -> float:
    return float(np.asarray(value).item()) if not isinstance(value, bytes) else 0.0


def _collectives(comm: Communicator, budget_s: float) -> list[CollectiveTime]:
    sizes = STORE_COLLECTIVE_BYTES if comm.channel == "store" else COLLECTIVE_BYTES
    calls = [("barrier", 0), *((name, size) for size in sizes for name in _CALLS)]
    found = []
    started = time.monotonic()
    for index, (name, size) in enumerate(calls):
        left_s = (budget_s - (time.monotonic() - started)) / (len(calls) - index)
        times = _timed(comm, name, np.ones(max(1, size // 8)), left_s)
        found.append(
            CollectiveTime(name=name, size_bytes=size, time_s=statistics.median(times), repetitions=len(times))
        )
    return found if comm.rank == 0 else []


def _timed(comm: Communicator, name: str, array: Array, budget_s: float) -> list[float]:
    """Times of the slowest rank; rank 0 decides how often."""

    def once() -> float:
        comm.barrier()
        began = time.perf_counter()
        if name == "barrier":
            comm.barrier()
        else:
            _CALLS[name](comm, array)
        return float(comm.allreduce(time.perf_counter() - began, "max"))

    began = time.perf_counter()
    first_s = once()
    whole_s = time.perf_counter() - began
    wanted = max(0, min(_MAX_REPETITIONS, int(budget_s / whole_s) - 1))
    repetitions = int(_number(comm.bcast(np.int64(wanted))))
    return [once() for _ in range(repetitions)] or [first_s]


_CALLS: dict[str, Callable[[Communicator, Array], object]] = {
    "bcast": lambda comm, array: comm.bcast(array),
    "gather": lambda comm, array: comm.gather(array),
    "allgather": lambda comm, array: comm.allgather(array),
    "scatter": lambda comm, array: comm.scatter([array] * comm.world_size),
    "reduce": lambda comm, array: comm.reduce(array),
    "allreduce": lambda comm, array: comm.allreduce(array),
    "scan": lambda comm, array: comm.scan(array),
}


def main() -> None:
    """One rank: `RankCheck` on standard input, `RankReport` on standard output."""
    work = RankCheck.model_validate_json(sys.stdin.read())
    try:
        report = check_rank(work)
    except SkyfanError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(report.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
