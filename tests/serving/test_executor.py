"""The executor behind gRPC: it gives up in time, and stops when its caller goes."""

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import threading

import pytest
from grpc import aio

from skyfan.backends.process import ProcessServices
from skyfan.errors import Busy, DeviceLost, ModelError, RankTooLarge
from skyfan.job import Job
from skyfan.records import RankRecord
from skyfan.rpc.envelope import pack, unpack
from skyfan.rpc.errors import error_of
from skyfan.rpc.interceptor import CallInterceptor
from skyfan.runs.folder import RunFolder
from skyfan.serving.executor import ExecutorServicer
from skyfan.stages import infer as core
from skyfan.stages.items import by_reference
from skyfan.stages.messages import ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from skyfan.v1.executor_pb2_grpc import ExecutorStub, add_ExecutorServicer_to_server


@pytest.fixture
def request_(sample, small_model, tmp_path):
    """All 101 samples as one rank, one sample a batch."""
    job = Job(dataset=str(sample.path), model=str(small_model), output=str(tmp_path / "run"), batch_size=1)
    models = ModelCache(threads=1)
    model = prepare(PrepareRequest(job=job), models)
    reply = plan(PlanRequest(job=job, model=model))
    return InferRequest(
        run_id=reply.run_id,
        job=job,
        item=RunFolder(job.output).read_plan().item(0),
        model=convert(ConvertRequest(job=job, model=model), models),
    )


@contextlib.asynccontextmanager
async def executor(models=None):
    server = aio.server(interceptors=[CallInterceptor("executor")])
    add_ExecutorServicer_to_server(ExecutorServicer(models or ModelCache(threads=1)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ExecutorStub(channel)
    await server.stop(None)


def test_a_rank_that_cannot_end_within_its_deadline_is_refused_at_once(request_, monkeypatch):
    monkeypatch.setattr(core, "COMMIT_MARGIN_S", 3600.0)

    async def go():
        async with executor() as stub:
            try:
                async for _ in stub.Infer(pack(request_), timeout=600):
                    pass
            except aio.AioRpcError as error:
                raise error_of(error, "executor") from error

    with pytest.raises(RankTooLarge, match="plan partitions of at most"):
        asyncio.run(go())


@pytest.mark.slow
def test_an_item_that_is_too_large_for_a_message_is_read_from_the_runs_folder(request_):
    sent = by_reference(request_)
    assert pack(sent).ByteSize() < pack(request_).ByteSize()

    async def go():
        async with executor() as stub:
            return [event async for event in stub.Infer(pack(sent), timeout=600)][-1]

    assert unpack(asyncio.run(go()).record, RankRecord).samples == 101


@pytest.mark.slow
def test_a_cancelled_rank_leaves_no_complaint_behind(request_, caplog):
    async def go():
        async with ProcessServices() as target:
            begun = asyncio.Event()
            rank = asyncio.create_task(target.infer(request_, lambda event: begun.set()))
            async with asyncio.timeout(60):
                await begun.wait()
            rank.cancel()
            await asyncio.gather(rank, return_exceptions=True)
            return rank.cancelled()

    with caplog.at_level(logging.ERROR, "asyncio"):
        assert asyncio.run(go())
    assert "never retrieved" not in caplog.text


class Held(ModelCache):
    """Loads no model before it is told to, and counts the threads that ask for one."""

    def __init__(self):
        super().__init__(threads=1)
        self.asked, self.go_on, self.at_work, self.most = threading.Event(), threading.Event(), 0, 0

    def model(self, *_, **_options):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.asked.set()
        try:
            assert self.go_on.wait(60)
            raise ModelError("nothing was loaded")
        finally:
            self.at_work -= 1


def test_an_executor_is_busy_until_the_thread_of_a_cancelled_call_has_ended(sample, small_model, tmp_path):
    job = Job(dataset=str(sample.path), model=str(small_model), output=str(tmp_path / "run"))
    asked, models = pack(PrepareRequest(job=job)), Held()

    async def error_of_prepare(stub):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Prepare(asked, timeout=60)
        return error_of(caught.value, "executor")

    async def go():
        async with executor(models) as stub:
            try:
                call = stub.Prepare(asked)
                assert await asyncio.to_thread(models.asked.wait, 60)
                call.cancel()
                # The server hears of it a moment later; before that the executor is busy in any case.
                for _ in range(20):
                    assert isinstance(await asyncio.wait_for(error_of_prepare(stub), 60), Busy)
                    await asyncio.sleep(0.02)
            finally:
                models.go_on.set()
            for _ in range(1000):
                if not isinstance(error := await error_of_prepare(stub), Busy):
                    break
                await asyncio.sleep(0.02)
            return error

    assert isinstance(asyncio.run(go()), ModelError)
    assert models.most == 1


LOST_GPU = """
import sys
from skyfan.errors import DeviceLost
from skyfan.serving import executor

class LostGpu(executor.ModelCache):
    def model(self, *_, **_options):
        raise DeviceLost("cuda failed (CUDA error: unspecified launch failure); try again in a new process.")

executor.ModelCache = LostGpu
executor.main(["--address", "127.0.0.1:0", "--announce"])
"""


@pytest.mark.slow
def test_an_executor_whose_gpu_is_lost_reports_it_and_ends(request_):
    """What CUDA holds of the card is of no use any more; on local the driver starts a new executor."""
    command = [sys.executable, "-c", LOST_GPU]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        port = json.loads(process.stdout.readline())["port"]

        async def go():
            async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await ExecutorStub(channel).Prepare(pack(PrepareRequest(job=request_.job)))
                return error_of(caught.value, "executor")

        error = asyncio.run(go())
        assert isinstance(error, DeviceLost)
        assert "CUDA error" in str(error)
        assert process.wait(30) == DeviceLost.exit_code
