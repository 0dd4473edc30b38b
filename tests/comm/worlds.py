"""Ranks as threads of the test's process, over every channel."""

import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from skyfan import comm
from skyfan.comm.communicator import Communicator
from skyfan.comm.peer_monitor import PeerMonitor
from skyfan.comm.stream import StreamChannel

T = TypeVar("T")
TOKEN = "a token of the tests"
_JOIN_S = 120.0


def run_threads(world_size: int, work: Callable[[int], T]) -> list[T]:
    """`work(rank)` of all ranks at once; the first error is raised after all have ended."""
    results: list[Any] = [None] * world_size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank)
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank-{rank}") for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_JOIN_S)
    assert not any(thread.is_alive() for thread in threads), "a rank hangs"
    if errors:
        raise errors[0]
    return results


def local_world(world_size: int, timeout_s: float = 30.0) -> list[Communicator]:
    """Communicators over socket pairs: the stream channel without a server."""
    sockets: list[dict[int, socket.socket]] = [{} for _ in range(world_size)]
    for higher in range(world_size):
        for lower in range(higher):
            sockets[lower][higher], sockets[higher][lower] = socket.socketpair()
    return [
        Communicator(
            StreamChannel("local", rank, world_size, sockets[rank], PeerMonitor()), "test", timeout_s=timeout_s
        )
        for rank in range(world_size)
    ]


def run_local(world_size: int, work: Callable[[Communicator], T], timeout_s: float = 30.0) -> list[T]:
    """`work(communicator)` on all ranks of a local world."""
    world = local_world(world_size, timeout_s)
    try:
        return run_threads(world_size, lambda rank: work(world[rank]))
    finally:
        for each in world:
            each.close()


def run_group(world_size: int, work: Callable[[Communicator], T], run: str | None = None, **options: Any) -> list[T]:
    """`work(communicator)` on all ranks of a group that is joined with `comm.connect`."""
    name = run or uuid.uuid4().hex

    def rank_work(rank: int) -> T:
        with comm.connect(rank, world_size, run=name, token=TOKEN, **options) as ranks:
            return work(ranks)

    return run_threads(world_size, rank_work)
