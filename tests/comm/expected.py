"""What every collective must give, computed by numpy from all ranks' inputs."""

import numpy as np

from skyfan.comm.communicator import Communicator


def inputs(world_size: int, shape: tuple[int, ...], dtype: str = "float64") -> list[np.ndarray]:
    """One array a rank; whole numbers, so that sums are exact in any order."""
    size = int(np.prod(shape, dtype=int))
    return [((np.arange(size) * 3 + rank * 7) % 11).reshape(shape).astype(dtype) for rank in range(world_size)]


def require_equal(found: object, wanted: np.ndarray) -> None:
    assert isinstance(found, np.ndarray)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def check_all(ranks: Communicator, shapes: list[tuple[int, ...]]) -> bool:
    """Every collective once for each shape, on the calling rank."""
    ranks.barrier()
    for number, shape in enumerate(shapes):
        arrays = inputs(ranks.world_size, shape)
        check_moving(ranks, arrays, root=(ranks.world_size // 2 + number) % ranks.world_size)
        check_reducing(ranks, arrays, root=(number * 5 + 1) % ranks.world_size)
    return True


def check_moving(ranks: Communicator, arrays: list[np.ndarray], root: int) -> None:
    mine, at_root = arrays[ranks.rank], ranks.rank == root
    require_equal(ranks.bcast(mine if at_root else None, root=root), arrays[root])
    gathered = ranks.gather(mine, root=root)
    assert (gathered is not None) == at_root
    for found, wanted in zip(gathered or [], arrays, strict=at_root):
        require_equal(found, wanted)
    for found, wanted in zip(ranks.allgather(mine), arrays, strict=True):
        require_equal(found, wanted)
    require_equal(ranks.scatter(arrays if at_root else None, root=root), mine)


def check_reducing(ranks: Communicator, arrays: list[np.ndarray], root: int) -> None:
    mine, stacked = arrays[ranks.rank], np.stack(arrays)
    reduced = ranks.reduce(mine, "sum", root=root)
    assert (reduced is not None) == (ranks.rank == root)
    if reduced is not None:
        require_equal(reduced, stacked.sum(axis=0))
    require_equal(ranks.allreduce(mine, "sum"), stacked.sum(axis=0))
    require_equal(ranks.allreduce(mine, "max"), stacked.max(axis=0))
    require_equal(ranks.allreduce(mine, "min"), stacked.min(axis=0))
    np.testing.assert_allclose(ranks.allreduce(mine, "mean"), stacked.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(ranks.allreduce(mine / 4, "prod"), (stacked / 4).prod(axis=0), rtol=1e-12)
    require_equal(ranks.scan(mine, "sum"), stacked[: ranks.rank + 1].sum(axis=0))
    require_equal(mine, arrays[ranks.rank])
