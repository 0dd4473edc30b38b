"""Which executors `--on local` starts: one for each GPU, and none that no rank needs."""

import asyncio
import contextlib
from collections.abc import Iterator

import psutil
import pytest

from skyfan.backends.local import COLLECTIVE_WORKERS, LocalServices
from skyfan.events import Event, RankCommitted
from tests.e2e.support import make_job, run

pytestmark = pytest.mark.slow


def executors() -> Iterator[psutil.Process]:
    """Executors that this process has started and that live."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "executor" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                yield child


def visible_to_executors(services: LocalServices) -> list[str | None]:
    async def go() -> list[str | None]:
        async with services:
            return sorted((one.environ().get("CUDA_VISIBLE_DEVICES") for one in executors()), key=str)

    return asyncio.run(go())


def test_each_gpu_has_an_executor_that_sees_no_other(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus = ("MIG-2fb4", "GPU-8932")
    services = LocalServices(gpus=gpus)
    assert services.concurrency == len(gpus)
    assert visible_to_executors(services) == sorted(gpus)
    assert LocalServices(gpus=("0", "1", "2", "3")).concurrency == 4
    assert LocalServices(workers=1, gpus=gpus).concurrency == 1
    assert LocalServices(device="cpu", gpus=gpus).concurrency == COLLECTIVE_WORKERS


def test_executors_beyond_the_gpus_share_them_in_turn():
    async def go() -> list[str]:
        async with LocalServices(workers=4, gpus=("3", "5")) as services:
            services.expect(3)
            async with contextlib.AsyncExitStack() as leases:
                for _ in range(3):
                    await leases.enter_async_context(services.pool.lease())
            return sorted(one.environ()["CUDA_VISIBLE_DEVICES"] for one in executors())

    assert asyncio.run(go()) == ["3", "3", "5"]


def test_no_more_executors_start_than_there_are_ranks(sample, small_model, tmp_path):
    seen: list[int] = []

    def listener(event: Event) -> None:
        if isinstance(event, RankCommitted):
            seen.append(len(list(executors())))

    job = make_job(sample.path, small_model, tmp_path / "run", world_size=3, workers=64)
    assert run(job, "local", listener).state == "complete"
    assert max(seen) <= 3
    assert not list(executors())


@pytest.mark.slow
def test_how_a_child_ended_is_known_when_its_successor_is_there_already():
    """A rank hears of the death after another call has started the child again, which then must not be ended."""

    async def kill_and_ask() -> None:
        async with LocalServices(workers=1) as services:
            first = await services.address_of("partitioner")
            port = int(first.rsplit(":", 1)[1])
            (process,) = (
                child
                for child in psutil.Process().children(recursive=True)
                if any(one.status == "LISTEN" and one.laddr.port == port for one in child.net_connections())
            )
            process.kill()
            second = await services.address_of("partitioner")
            assert second != first
            assert await services.loss_of(first) == "signal 9, often out of memory"
            assert await services.address_of("partitioner") == second

    asyncio.run(kill_and_ask())
