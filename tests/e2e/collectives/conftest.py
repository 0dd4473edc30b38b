"""Three ranks of a planned run, and their group over either channel."""

from contextlib import ExitStack

import pytest

from skyfan.comm.rank_group import RankGroup
from skyfan.job import Job
from skyfan.runs.commit import RunLedger
from skyfan.serving.embedded_rendezvous import EmbeddedServer
from skyfan.stages.messages import ConvertRequest, InferRequest, PlanRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.prepare import convert, prepare
from tests.e2e.collectives.ranks import RANKS, TOKEN


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("SKYFAN_TOKEN", TOKEN)


@pytest.fixture
def planned(sample, small_model, tmp_path):
    """What each of three ranks is asked, but for its group; batches of four."""
    job = Job(
        dataset=str(sample.path),
        model=str(small_model),
        output=str(tmp_path / "run"),
        batch_size=4,
        partition_size=12 * 20504 + 2048,
        world_size=RANKS,
    )
    models = ModelCache(threads=1)
    model = prepare(PrepareRequest(job=job), models)
    reply = plan(PlanRequest(job=job, model=model))
    file = convert(ConvertRequest(job=job, model=model), models)
    return [
        InferRequest(run_id=reply.run_id, job=job, item=item, model=file)
        for item in RunLedger(job.output).read_plan().items()
    ]


@pytest.fixture(params=["relay", "store"])
def group(request):
    """The group as every rank knows it, over either channel."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer()) if request.param == "relay" else None
        yield RankGroup(name="start-1", members=RANKS, rendezvous=server and server.address)
