"""Reduce, allreduce and scan."""

import numpy as np

from skyfan.comm.algorithms.ring import allgather_blocks, block_bounds, reduce_scatter
from skyfan.comm.algorithms.trees import bcast, doubling, gather, parent_and_children
from skyfan.comm.errors import CollectiveMismatch
from skyfan.comm.operation import Operation
from skyfan.comm.payloads import Array, fingerprint, raw_bytes
from skyfan.comm.reduction import Reduction

ALLREDUCE_RING_BYTES = 32 * 2**10
REDUCE_RING_BYTES = 128 * 2**10
REDUCE_RING_RANKS = 3

_FOLD_IN, _EXCHANGE, _FOLD_OUT, _RING, _GATHER_RING, _COLLECT = 1, 2, 1000, 2000, 200_000, 400_000


def allreduce(run: Operation, array: Array, reduction: Reduction, out: Array) -> None:
    """The reduction of all ranks' arrays, bit for bit the same on every rank, into `out`."""
    if not reduction.associative:
        _allreduce_folded(run, array, reduction, out)
    elif reduction.elementwise and array.nbytes >= ALLREDUCE_RING_BYTES and array.size >= run.size > 1:
        _allreduce_ring(run, array, reduction, out)
    else:
        _allreduce_doubling(run, array, reduction, out)


def _allreduce_ring(run: Operation, array: Array, reduction: Reduction, out: Array) -> None:
    """Reduce-scatter, then allgather: every rank sends 2 (n - 1) / n of the array."""
    flat_in, flat = array.reshape(-1), out.reshape(-1)
    bounds = block_bounds(flat.size, run.size)
    block = reduce_scatter(run, flat_in, flat, bounds, reduction, fingerprint(array), _RING)
    reduction.finish(flat[bounds[block] : bounds[block + 1]], run.size)
    blocks = [raw_bytes(flat[bounds[index] : bounds[index + 1]]) for index in range(run.size)]
    allgather_blocks(run, blocks, block, -1, _GATHER_RING)


def _allreduce_doubling(run: Operation, array: Array, reduction: Reduction, out: Array) -> None:
    """Recursive doubling (Thakur et al., 2005); lower ranks always stand left, so the order is kept.

    When n is no power of two, the first ranks join in pairs before and are served after the exchange.
    """
    check = fingerprint(array)
    if out is not array:
        out[...] = array
    power = 1 << (run.size.bit_length() - 1)
    paired = 2 * (run.size - power)
    other = np.empty_like(out)
    if run.rank < paired and run.rank % 2 == 0:
        run.send_array(run.rank + 1, _FOLD_IN, out, check)
        run.recv_array(run.rank + 1, _FOLD_OUT, out, check)
        return
    if run.rank < paired:
        run.recv_array(run.rank - 1, _FOLD_IN, other, check)
        reduction.combine(other, out, out=out)
    index = run.rank // 2 if run.rank < paired else run.rank - paired // 2  # among the ranks that exchange
    outgoing = np.empty_like(out) if power > 1 else out
    for distance in doubling(power):
        partner = index ^ distance
        peer = 2 * partner + 1 if 2 * partner < paired else partner + paired // 2
        outgoing[...] = out
        arrived = run.irecv(peer, _EXCHANGE + distance, raw_bytes(other), check)
        sent = run.isend(peer, _EXCHANGE + distance, (raw_bytes(outgoing),), check)
        run.wait(arrived, sent)
        if partner < index:
            reduction.combine(other, out, out=out)
        else:
            reduction.combine(out, other, out=out)
    reduction.finish(out, run.size)
    if run.rank < paired:
        run.send_array(run.rank - 1, _FOLD_OUT, out, check)


def _allreduce_folded(run: Operation, array: Array, reduction: Reduction, out: Array) -> None:
    result = _reduce_folded(run, array, reduction, 0)
    out[...] = bcast(run, b"" if result is None else result, 0)


def reduce(run: Operation, array: Array, reduction: Reduction, root: int) -> Array | None:
    """The reduction of all ranks' arrays on the root; None elsewhere."""
    if not reduction.associative:
        return _reduce_folded(run, array, reduction, root)
    large = array.nbytes >= REDUCE_RING_BYTES and run.size >= REDUCE_RING_RANKS and array.size >= run.size
    if reduction.elementwise and large:
        return _reduce_ring(run, array, reduction, root)
    return _reduce_tree(run, array, reduction, root)


def _reduce_folded(run: Operation, array: Array, reduction: Reduction, root: int) -> Array | None:
    """For functions that are not associative: f(f(f(a₀, a₁), a₂), …), computed by the root."""
    values = gather(run, array, root)
    if values is None:
        return None
    total = array.copy() if run.rank == 0 else _as_like(values[0], array)
    for value in values[1:]:
        total = reduction.combine(total, _as_like(value, array))
    return reduction.finish(total, run.size)


def _as_like(value: Array | bytes, like: Array) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype != like.dtype or value.shape != like.shape:
        raise CollectiveMismatch(
            "reduce: the ranks passed arrays of different dtype or shape; pass the same dtype and shape on all ranks."
        )
    return value


def _reduce_tree(run: Operation, array: Array, reduction: Reduction, root: int) -> Array | None:
    """A binomial tree; where order matters it stands on rank 0, which then hands the result to the root."""
    base = root if reduction.commutative else 0
    check = fingerprint(array)
    relative = (run.rank - base) % run.size
    parent, children = parent_and_children(relative, run.size)
    total, other = array.copy(), np.empty_like(array)
    for child in reversed(children):
        run.recv_array((child + base) % run.size, _FOLD_IN, other, check)
        reduction.combine(total, other, out=total)
    if parent is not None:
        run.send_array((parent + base) % run.size, _FOLD_IN, total, check)
    elif base != root:
        run.send_array(root, _FOLD_OUT, total, check)
    if run.rank != root:
        return None
    if base != root:
        run.recv_array(base, _FOLD_OUT, total, check)
    return reduction.finish(total, run.size)


def _reduce_ring(run: Operation, array: Array, reduction: Reduction, root: int) -> Array | None:
    """Reduce-scatter on the ring; then every rank sends its finished block to the root."""
    flat, total = array.reshape(-1), np.empty(array.size, array.dtype)
    bounds = block_bounds(flat.size, run.size)
    block = reduce_scatter(run, flat, total, bounds, reduction, fingerprint(array), _RING)
    if run.rank != root:
        run.wait(run.isend(root, _COLLECT, (raw_bytes(total[bounds[block] : bounds[block + 1]]),)))
        return None
    receives = []
    for rank in range(run.size):
        theirs = (rank + 1) % run.size
        if rank != root:
            receives.append(run.irecv(rank, _COLLECT, raw_bytes(total[bounds[theirs] : bounds[theirs + 1]])))
    run.wait(*receives)
    return reduction.finish(total.reshape(array.shape), run.size)


def scan(run: Operation, array: Array, reduction: Reduction) -> Array:
    """Inclusive prefix reduction: rank r gets the reduction of ranks 0 to r."""
    check = fingerprint(array)
    total, other = array.copy(), np.empty_like(array)
    if not reduction.associative:
        if run.rank:
            run.recv_array(run.rank - 1, _FOLD_IN, other, check)
            total = reduction.combine(other, array)
        if run.rank + 1 < run.size:
            run.send_array(run.rank + 1, _FOLD_IN, total, check)
        return reduction.finish(total, run.rank + 1)
    for distance in doubling(run.size):  # Hillis and Steele, 1986
        outgoing = total.copy()
        requests = []
        if run.rank + distance < run.size:
            requests.append(run.isend(run.rank + distance, _EXCHANGE + distance, (raw_bytes(outgoing),), check))
        if run.rank >= distance:
            requests.append(run.irecv(run.rank - distance, _EXCHANGE + distance, raw_bytes(other), check))
        run.wait(*requests)
        if run.rank >= distance:
            reduction.combine(other, total, out=total)
    return reduction.finish(total, run.rank + 1)
