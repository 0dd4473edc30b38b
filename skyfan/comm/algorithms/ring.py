"""Ring algorithms for large arrays: every rank sends to the next and receives from the one before.

Blocks are cut into pieces, and a piece is passed on as soon as it is there, so that sending, receiving and
adding overlap, and what is added still lies in the processor's cache.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from skyfan.comm.channel import Request
from skyfan.comm.operation import Operation
from skyfan.comm.payloads import Array, raw_bytes
from skyfan.comm.reduction import Reduction

PIECE_BYTES = 512 * 2**10
_POSTED_AHEAD = 4


def block_bounds(length: int, count: int) -> list[int]:
    """`count` + 1 borders of nearly equal blocks of 0..`length`."""
    return [length * index // count for index in range(count + 1)]


def pieces(block: memoryview) -> list[memoryview]:
    """A block cut into pieces; none if it is empty."""
    return [block[start : start + PIECE_BYTES] for start in range(0, block.nbytes, PIECE_BYTES)]


def allgather_blocks(run: Operation, blocks: Sequence[memoryview], index: int, root: int, step: int) -> None:
    """Fill all `blocks` on all ranks, where the rank `root` + i (mod n) starts with block i.

    `index` is the block that this rank starts with. Empty blocks cost nothing.
    """
    size = run.size
    if size == 1:
        return
    after, before = (index + 1 + root) % size, (index - 1 + root) % size
    cut = [pieces(block) for block in blocks]
    receives = [
        [run.irecv(before, step + turn, piece) for piece in cut[(index - turn - 1) % size]] for turn in range(size - 1)
    ]
    sends = [run.isend(after, step, (piece,)) for piece in cut[index]]
    for turn in range(1, size - 1):
        for piece, arrived in zip(cut[(index - turn) % size], receives[turn - 1], strict=True):
            run.wait(arrived)
            sends.append(run.isend(after, step + turn, (piece,)))
    run.wait(*receives[-1], *sends)


class _Piece(NamedTuple):
    turn: int
    start: int
    stop: int


def _incoming(rank: int, bounds: Sequence[int], itemsize: int) -> Iterator[_Piece]:
    """The pieces that reach this rank during a reduce-scatter, in order (element positions)."""
    size = len(bounds) - 1
    length = max(1, PIECE_BYTES // itemsize)
    for turn in range(size - 1):
        block = (rank - turn - 1) % size
        for start in range(bounds[block], bounds[block + 1], length):
            yield _Piece(turn, start, min(start + length, bounds[block + 1]))


def reduce_scatter(
    run: Operation, source: Array, out: Array, bounds: Sequence[int], reduction: Reduction, check: int, step: int
) -> int:
    """Reduce flat arrays; on return `out` holds the finished block whose number is returned.

    The rest of `out` is scratch. `source` and `out` may be the same memory. Only for elementwise,
    associative and commutative reductions (Patarasuk and Yuan, 2009).
    """
    size, rank = run.size, run.rank
    after, before = (rank + 1) % size, (rank - 1) % size
    awaited = list(_incoming(rank, bounds, source.itemsize))
    scratch = deque(
        np.empty(max(1, PIECE_BYTES // source.itemsize), source.dtype) for _ in range(min(_POSTED_AHEAD, len(awaited)))
    )
    posted: deque[tuple[Request, Array]] = deque()

    def post(piece: _Piece) -> None:
        room = scratch.popleft()
        view = raw_bytes(room[: piece.stop - piece.start])
        posted.append((run.irecv(before, step + piece.turn, view, check), room))

    for piece in awaited[:_POSTED_AHEAD]:
        post(piece)
    own = raw_bytes(source[bounds[rank] : bounds[rank + 1]])
    length = max(1, PIECE_BYTES // source.itemsize) * source.itemsize
    sends = [run.isend(after, step, (own[start : start + length],), check) for start in range(0, own.nbytes, length)]
    for number, (turn, start, stop) in enumerate(awaited):
        arrived, room = posted.popleft()
        run.wait(arrived)
        reduction.combine(source[start:stop], room[: stop - start], out=out[start:stop])
        scratch.append(room)
        if number + _POSTED_AHEAD < len(awaited):
            post(awaited[number + _POSTED_AHEAD])
        if turn < size - 2:
            sends.append(run.isend(after, step + turn + 1, (raw_bytes(out[start:stop]),), check))
    run.wait(*sends)
    return (rank + 1) % size
