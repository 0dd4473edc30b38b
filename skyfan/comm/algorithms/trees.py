"""Barrier, bcast, gather, scatter and allgather: binomial trees and doubling.

Trees are built on relative ranks: (rank - root) mod n, so that any rank can be the root.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from skyfan.comm.algorithms.parcels import Parcel, pack, parcel, unpack
from skyfan.comm.algorithms.ring import allgather_blocks, block_bounds
from skyfan.comm.channel import Request
from skyfan.comm.operation import Operation
from skyfan.comm.payloads import Value, decode, encode

BCAST_TREE_MAX_BYTES = 512 * 2**10
BCAST_TREE_MAX_RANKS = 3

_TREE, _LARGE, _SCATTER, _RING = 0, 1, 2, 1000
_NOTHING = memoryview(b"")


def barrier(run: Operation) -> None:
    """Dissemination: in round k every rank signals the rank 2ᵏ after it (Hensgen et al., 1988)."""
    for distance in doubling(run.size):
        arrived = run.irecv((run.rank - distance) % run.size, distance, _NOTHING)
        sent = run.isend((run.rank + distance) % run.size, distance, ())
        run.wait(arrived, sent)


def parent_and_children(relative: int, size: int) -> tuple[int | None, list[int]]:
    """Of a binomial tree's node, as relative ranks; children with the largest subtree first."""
    bit = 1
    while bit < size and not relative & bit:
        bit *= 2
    parent = relative - bit if relative else None
    children = []
    while bit > 1:
        bit //= 2
        if relative + bit < size:
            children.append(relative + bit)
    return parent, children


def subtree(relative: int, size: int) -> range:
    """The relative ranks below and including a node: always neighbours."""
    bit = 1
    while bit < size and not relative & bit:
        bit *= 2
    return range(relative, min(relative + bit, size))


def bcast(run: Operation, value: object, root: int) -> Value:
    """The root's value on every rank; the others pass nothing."""
    relative = (run.rank - root) % run.size
    parent, children = parent_and_children(relative, run.size)
    if parent is None:
        description, data = encode(value, "bcast")
        split = data.nbytes > BCAST_TREE_MAX_BYTES and run.size > BCAST_TREE_MAX_RANKS
        message = [memoryview(data.nbytes.to_bytes(8, "little")), memoryview(description)]
        message += [] if split else [data]
    else:
        received = run.recv((parent + root) % run.size, _TREE)
        size_bytes = int.from_bytes(received[:8], "little")
        end = received.nbytes - size_bytes
        split = size_bytes > BCAST_TREE_MAX_BYTES and run.size > BCAST_TREE_MAX_RANKS
        description = bytes(received[8:] if split else received[8:end])
        data = np.empty(size_bytes, np.uint8).data if split else received[end:]
        message = [received]
    run.wait(*(run.isend((child + root) % run.size, _TREE, message) for child in children))
    if split:
        _bcast_large(run, data, root, relative)
    return decode(description, data, root)


def _bcast_large(run: Operation, data: memoryview, root: int, relative: int) -> None:
    """Scatter one block a rank along the tree, then pass blocks round the ring (van de Geijn, 1994)."""
    bounds = block_bounds(data.nbytes, run.size)
    parent, children = parent_and_children(relative, run.size)
    mine = subtree(relative, run.size)
    if parent is not None:
        into = data[bounds[mine.start] : bounds[mine.stop]]
        run.wait(run.irecv((parent + root) % run.size, _SCATTER, into))
    sends = []
    for child in children:
        below = subtree(child, run.size)
        part = data[bounds[below.start] : bounds[below.stop]]
        sends.append(run.isend((child + root) % run.size, _SCATTER, (part,)))
    run.wait(*sends)
    blocks = [data[bounds[index] : bounds[index + 1]] for index in range(run.size)]
    allgather_blocks(run, blocks, relative, root, _RING)


def gather(run: Operation, value: object, root: int) -> list[Value] | None:
    """The values of all ranks, in rank order, on the root; None elsewhere."""
    relative = (run.rank - root) % run.size
    parent, children = parent_and_children(relative, run.size)
    own = parcel(run.rank, value, "gather")
    held = [own]
    for child in reversed(children):
        held += unpack(run.recv((child + root) % run.size, _TREE))
    if parent is not None:
        run.wait(run.isend((parent + root) % run.size, _TREE, pack(held)))
        if own.large:
            assert own.data is not None
            run.wait(run.isend(root, _LARGE, (own.data,)))
        return None
    run.wait(*(run.irecv(each.rank, _LARGE, each.room()) for each in held if each.data is None))
    return [each.value() for each in sorted(held, key=lambda each: each.rank)]


def scatter(run: Operation, values: Sequence[object] | None, root: int) -> Value:
    """The root's `values[rank]` on every rank."""
    relative = (run.rank - root) % run.size
    parent, children = parent_and_children(relative, run.size)
    sends: list[Request] = []
    if parent is None:
        assert values is not None
        held = [parcel(rank, each, "scatter") for rank, each in enumerate(values)]
    else:
        held = unpack(run.recv((parent + root) % run.size, _TREE))
    by_rank = {each.rank: each for each in held}
    for child in children:
        below = [by_rank[(index + root) % run.size] for index in subtree(child, run.size)]
        sends.append(run.isend((child + root) % run.size, _TREE, pack(below)))
    own = by_rank[run.rank]
    if parent is None:
        sends += [
            run.isend(each.rank, _LARGE, (each.data,)) for each in held if each.large and each.data and each is not own
        ]
    elif own.data is None:
        sends.append(run.irecv(root, _LARGE, own.room()))
    run.wait(*sends)
    return own.value()


def allgather(run: Operation, value: object) -> list[Value]:
    """The values of all ranks, in rank order, on every rank."""
    own = parcel(run.rank, value, "allgather")
    held = _bruck(run, own)
    held.sort(key=lambda each: each.rank)
    for each in held:
        if each.data is None:
            each.room()
    if any(each.large for each in held):
        blocks = [each.data if each.large and each.data else _NOTHING for each in held]
        allgather_blocks(run, blocks, run.rank, 0, _RING)
    return [each.value() for each in held]


def _bruck(run: Operation, own: Parcel) -> list[Parcel]:
    """In round k every rank passes what it holds to the rank 2ᵏ before it (Bruck et al., 1997)."""
    held = [own]
    for distance in doubling(run.size):
        count = min(distance, run.size - distance)
        sent = run.isend((run.rank - distance) % run.size, distance, pack(held[:count]))
        held += unpack(run.recv((run.rank + distance) % run.size, distance))
        run.wait(sent)
    return held


def doubling(size: int) -> Iterator[int]:
    """1, 2, 4, … below `size`."""
    distance = 1
    while distance < size:
        yield distance
        distance *= 2
