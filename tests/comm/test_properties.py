"""Collectives for any dtype, shape, root and world size that hypothesis finds."""

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skyfan.comm.payloads import decode, encode
from tests.comm.worlds import run_local

ANY_DTYPE = st.one_of(
    arrays.scalar_dtypes(),
    arrays.array_dtypes(subtype_strategy=arrays.scalar_dtypes(), max_size=3),
    st.sampled_from([np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e4m3fn)]),
)
SHAPE = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NUMBERS = st.sampled_from(["int8", "uint16", "int32", "int64", "float32", "float64", "complex128"])
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def some(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    return np.random.default_rng(seed).integers(0, 255, size, np.uint8).view(dtype).reshape(shape)


def same(left: object, right: np.ndarray) -> bool:
    assert isinstance(left, np.ndarray)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@given(dtype=ANY_DTYPE, shape=SHAPE)
@settings(deadline=None)
def test_any_array_survives_the_way(dtype, shape):
    if dtype.itemsize == 0:
        return
    array = some(dtype, shape, 1)
    description, data = encode(array, "test")
    assert same(decode(description, memoryview(bytes(data)), 0), array)


@given(dtype=ANY_DTYPE, shape=SHAPE, world_size=st.integers(1, 5), data=st.data())
@few
def test_bcast_and_gather_of_any_array(dtype, shape, world_size, data):
    if dtype.itemsize == 0:
        return
    root = data.draw(st.integers(0, world_size - 1))
    values = [some(dtype, shape[: len(shape) - rank % 2], rank) for rank in range(world_size)]

    def work(ranks):
        assert same(ranks.bcast(values[root] if ranks.rank == root else None, root=root), values[root])
        gathered = ranks.gather(values[ranks.rank], root=root)
        return gathered is None or all(same(*each) for each in zip(gathered, values, strict=True))

    assert all(run_local(world_size, work))


@given(
    dtype=NUMBERS,
    shape=arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
    world_size=st.integers(1, 6),
    name=st.sampled_from(["sum", "min", "max", "prod"]),
    data=st.data(),
)
@few
def test_reductions_of_any_numbers(dtype, shape, world_size, name, data):
    if dtype == "complex128" and name in ("min", "max"):
        return
    root = data.draw(st.integers(0, world_size - 1))
    size = int(np.prod(shape, dtype=int))
    values = [(np.arange(size) + rank).reshape(shape).astype(dtype) % np.array(5, "int8").astype(dtype)
              if dtype != "complex128" else (np.arange(size) % 5 + rank * 1j).reshape(shape)
              for rank in range(world_size)]  # fmt: skip
    ufunc = {"sum": np.add, "min": np.minimum, "max": np.maximum, "prod": np.multiply}[name]
    prefixes = [values[0]]
    for value in values[1:]:
        prefixes.append(ufunc(prefixes[-1], value))

    def work(ranks):
        assert np.array_equal(ranks.allreduce(values[ranks.rank], name), prefixes[-1])
        assert np.array_equal(ranks.scan(values[ranks.rank], name), prefixes[ranks.rank])
        reduced = ranks.reduce(values[ranks.rank], name, root=root)
        return reduced is None or np.array_equal(reduced, prefixes[-1])

    assert all(run_local(world_size, work))


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300_000)), min_size=1, max_size=6))
@few
def test_messages_of_any_size_arrive_whole_in_order_of_their_tag(messages):
    def work(ranks):
        if ranks.rank == 0:
            for tag, content in messages:
                ranks.send(content, 1, tag=tag)
            return True
        ordered = sorted(messages, key=lambda each: each[0])
        return all(ranks.recv(0, tag=tag) == content for tag, content in ordered)

    assert all(run_local(2, work))
