"""Every collective against numpy, for all world sizes from 1 to 17, over one in-process stream channel."""

import numpy as np
import pytest

from skyfan import comm
from skyfan.errors import BadInput
from tests.comm.expected import check_all, inputs, require_equal
from tests.comm.worlds import local_world, run_local

# From one number to arrays beyond every threshold at which the algorithm changes.
SHAPES = [(), (3,), (0, 4), (2, 3, 5), (20_011,), (3, 30_011)]


FAST_SIZES = [1, 2, 3, 5]
SLOW_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in range(1, 18) if size not in FAST_SIZES]


@pytest.mark.parametrize("world_size", FAST_SIZES + SLOW_SIZES)
def test_collectives_equal_numpy(world_size):
    assert run_local(world_size, lambda ranks: check_all(ranks, SHAPES)) == [True] * world_size


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [4, 7])
def test_large_arrays_equal_numpy(world_size):
    assert all(run_local(world_size, lambda ranks: check_all(ranks, [(3, 100_003)])))


@pytest.mark.parametrize("world_size", [1, 2, 3, 6, 8, 13])
@pytest.mark.parametrize("associative", [True, False])
def test_reductions_that_do_not_commute_keep_rank_order(world_size, associative):
    # 2×2 matrix products are associative and do not commute; a ↦ 2a + b is neither.
    function = (lambda a, b: a @ b) if associative else (lambda a, b: 2 * a + b)
    op = comm.custom(function, commutative=False, associative=associative)
    arrays = [np.array([[1, rank], [rank % 3, 1]], np.int64) for rank in range(world_size)]
    prefixes = [arrays[0]]
    for array in arrays[1:]:
        prefixes.append(function(prefixes[-1], array))

    def work(ranks):
        root = world_size - 1
        require_equal(ranks.allreduce(arrays[ranks.rank], op), prefixes[-1])
        require_equal(ranks.scan(arrays[ranks.rank], op), prefixes[ranks.rank])
        reduced = ranks.reduce(arrays[ranks.rank], op, root=root)
        if ranks.rank == root:
            require_equal(reduced, prefixes[-1])

    run_local(world_size, work)


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_allreduce_is_bitwise_the_same_on_all_ranks(size):
    def work(ranks):
        return ranks.allreduce(np.random.default_rng(ranks.rank).normal(size=size) * 1e3).tobytes()

    assert len(set(run_local(6, work))) == 1


def test_allreduce_in_place_and_into_an_array_leaves_the_input_alone():
    def work(ranks):
        array = np.full(100_000, float(ranks.rank))
        out = np.empty_like(array)
        assert ranks.allreduce(array, out=out) is out
        require_equal(array, np.full(100_000, float(ranks.rank)))
        ranks.allreduce(array, out=array)
        return float(array[0]), float(out[-1])

    assert run_local(3, work) == [(3.0, 3.0)] * 3


def test_values_may_differ_from_rank_to_rank_in_kind_dtype_and_shape():
    values = [b"", np.arange(5, dtype=np.int16), b"x" * 100_000, np.ones((2, 70_000)), np.float32(2.5)]

    def work(ranks):
        gathered = ranks.allgather(values[ranks.rank])
        at_root = ranks.gather(values[ranks.rank], root=3)
        mine = ranks.scatter(values if ranks.rank == 2 else None, root=2)
        for found in (gathered, at_root or values):
            for each, wanted in zip(found, values, strict=True):
                assert np.array_equal(each, wanted) if not isinstance(wanted, bytes) else each == wanted
        return type(mine)

    assert run_local(5, work) == [bytes, np.ndarray, bytes, np.ndarray, np.ndarray]


def test_messages_match_by_tag_and_keep_their_order():
    def work(ranks):
        if ranks.rank == 0:
            for number in range(5):
                ranks.send(np.full(40_000, number), 1, tag=number % 2)
            ranks.barrier()
            return []
        ranks.barrier()
        return [int(ranks.recv(0, tag=tag)[0]) for tag in (1, 1, 0, 0, 0)]

    assert run_local(2, work)[1] == [1, 3, 0, 2, 4]


def test_a_large_exchange_in_both_directions_does_not_deadlock_collectives():
    def work(ranks):
        array = np.arange(2_000_000, dtype=np.float64) + ranks.rank
        return float(ranks.allreduce(array)[-1])

    assert set(run_local(4, work)) == {4 * 1_999_999.0 + 6}


def test_ranks_that_call_different_operations_get_a_mismatch():
    def work(ranks):
        with pytest.raises((comm.CollectiveMismatch, comm.CommTimeout)) as caught:
            ranks.barrier(timeout_s=20) if ranks.rank else ranks.allreduce(np.ones(3), timeout_s=20)
        return caught.value

    errors = run_local(2, work)
    assert any("called allreduce #1 where this rank called barrier #1" in str(error) for error in errors)


def test_ranks_that_pass_other_shapes_get_a_mismatch():
    def work(ranks):
        with pytest.raises(comm.CollectiveMismatch, match="another dtype or shape"):
            ranks.allreduce(np.ones(3 + ranks.rank))

    run_local(2, work)


def test_a_slow_rank_is_waited_for_and_a_missing_one_named_at_the_deadline():
    def work(ranks):
        if ranks.rank == 2:
            return ()
        with pytest.raises(comm.CommTimeout, match="did not take part before the deadline") as caught:
            ranks.barrier(timeout_s=0.3)
        with pytest.raises(comm.CommTimeout):
            ranks.barrier()
        return caught.value.ranks

    results = run_local(3, work)
    assert (2,) in results


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ranks: ranks.bcast(b"", root=2), "root 2 is not a rank"),
        (lambda ranks: ranks.bcast(root=0), "must pass a value"),
        (lambda ranks: ranks.scatter([b""] * 3), "must pass 1 values, not 3"),
        (lambda ranks: ranks.send(b"", 0), "cannot exchange messages with itself"),
        (lambda ranks: ranks.reduce(np.ones(2), "median"), "'median' is unknown"),
        (lambda ranks: ranks.allreduce(np.array(["a"])), "sum is not defined for arrays of <U1"),
        (lambda ranks: ranks.allgather([1, 2]), "not list"),
        (lambda ranks: ranks.allgather(np.array([None])), "Python objects"),
        (lambda ranks: ranks.allreduce(np.ones(3), out=np.ones(4)), "out must be a C-contiguous array"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(BadInput, match=message):
        run_local(1, call)


def test_a_custom_function_must_keep_dtype_and_shape():
    op = comm.custom(lambda a, b: (a + b).astype(np.float32), commutative=True, associative=True)

    def work(ranks):
        ranks.allreduce(inputs(2, (3,))[ranks.rank], op)

    with pytest.raises(BadInput, match="must keep dtype and shape"):
        run_local(2, work)


def test_a_closed_communicator_raises():
    (ranks,) = local_world(1)
    ranks.close()
    ranks.close()
    with pytest.raises(comm.CommError, match="is closed"):
        ranks.barrier()
