"""The partitioner over gRPC."""

import asyncio
import threading

import pytest
import torch
from grpc import aio

from skyfan import store
from skyfan.job import Job
from skyfan.rpc.envelope import pack
from skyfan.runs.commit import RunLedger
from skyfan.serving.partitioner import PartitionerServicer
from skyfan.stages.messages import PlanRequest, PreparedModel
from skyfan.v1.partitioner_pb2_grpc import PartitionerStub, add_PartitionerServicer_to_server

pytestmark = pytest.mark.slow

RANKS = 100
OUTPUT = "s3://skyfan-test/run"


def request_to(tmp_path, *, resume):
    job = Job(dataset=str(tmp_path / "x.pt"), model="m", output=OUTPUT, partition_size=2056, resume=resume)
    model = PreparedModel(uri="m", digest="d", format="", parameters=1, needs_conversion=False)
    return pack(PlanRequest(job=job, model=model, executors=1))


def test_a_start_over_whose_caller_goes_away_removes_nothing_more(proxy, tmp_path):
    torch.save({"image": torch.rand(RANKS, 2)}, tmp_path / "x.pt")
    ledger, removing, go_on = RunLedger(OUTPUT), threading.Event(), threading.Event()

    def hold_removals(method, path, _headers):
        if method == "DELETE" and "/predictions/" in path:
            removing.set()
            assert go_on.wait(60)
        return ""

    async def go():
        server = aio.server()
        add_PartitionerServicer_to_server(PartitionerServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = PartitionerStub(channel)
            await stub.Plan(request_to(tmp_path, resume=True), timeout=60)
            for rank in range(RANKS):
                store.put(ledger.predictions_uri(rank), b"a committed file of Parquet")
            proxy.fault = hold_removals
            call = stub.Plan(request_to(tmp_path, resume=False))
            assert await asyncio.to_thread(removing.wait, 60)
            call.cancel()
            await asyncio.sleep(1)  # for the server to hear of it
            go_on.set()
        await server.stop(None)
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(go())
    assert len(list(ledger.committed_ranks())) > RANKS // 2
