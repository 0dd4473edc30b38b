"""A checkpoint is converted once, before the fan-out of a Distributed Map; its ranks run what was tried."""

import hashlib

import pytest

from skyfan import store
from skyfan.errors import ModelError
from skyfan.planning import RunOptions
from skyfan.runs.folder import RunFolder
from skyfan.stages import infer as core
from skyfan.stages.infer_messages import InferRequest, PrepareRequest
from skyfan.stages.model_cache import ModelCache
from skyfan.stages.plan import plan
from skyfan.stages.plan_messages import PlanRequest


@pytest.fixture
def warm():
    return ModelCache(threads=1)


@pytest.fixture
def prepared(sample, small_model, tmp_path, warm):
    request = PrepareRequest(
        model=str(small_model), dataset=str(sample.path), convert_into=str(tmp_path / "run"), measure_rate=True
    )
    return core.prepare(request, warm)


@pytest.fixture
def rank(sample, prepared, tmp_path):
    """The only rank of the run, as the state machine asks for it."""
    output = str(tmp_path / "run")
    given = {"model": prepared.model, "model_digest": prepared.digest, "output": output, "options": RunOptions()}
    reply = plan(PlanRequest(dataset=str(sample.path), partition_size_bytes=None, **given))
    return InferRequest(
        run_id=reply.run_id,
        item=RunFolder(output).read_plan().item(0),
        file_digest=prepared.ready_digest,
        **{**given, "model": prepared.ready},
    )


def test_the_record_names_the_checkpoint_and_the_file_is_checked(rank, prepared, small_model):
    assert prepared.ready != prepared.model
    assert prepared.ready_digest == hashlib.sha256(store.read(prepared.ready)).hexdigest()
    record = core.infer(rank, ModelCache(threads=1))
    assert record.model_digest == prepared.digest == hashlib.sha256(small_model.read_bytes()).hexdigest()


def test_warm_and_cold_ranks_run_the_same_engine(rank, warm):
    warmly, cold = core.infer(rank, warm), ModelCache(threads=1)
    store.delete(RunFolder(rank.output).predictions_uri(0))
    record = core.infer(rank, cold)
    assert (record.engine, record.engine_reason) == (warmly.engine, warmly.engine_reason)
    assert (warmly.cold_start, record.cold_start) == (False, True)


def test_a_converted_model_that_was_replaced_is_refused(rank, prepared):
    store.put(prepared.ready, store.read(prepared.ready)[:-4] + b"\0\0\0\0")
    with pytest.raises(ModelError, match="changed since the run was planned"):
        core.infer(rank, ModelCache(threads=1))


def test_what_an_earlier_start_left_is_used_only_if_it_is_whole(sample, small_model, tmp_path, prepared):
    again = PrepareRequest(model=str(small_model), dataset=str(sample.path), convert_into=str(tmp_path / "run"))
    whole = store.read(prepared.ready)
    store.put(prepared.ready, whole[:1000])
    assert core.prepare(again, ModelCache(threads=1)).ready_digest == prepared.ready_digest
    assert store.read(prepared.ready) == whole
